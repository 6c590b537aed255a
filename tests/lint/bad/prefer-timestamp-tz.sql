-- raises: prefer-timestamp-tz
ALTER TABLE cm.account ADD COLUMN left_at timestamp;
COMMENT ON COLUMN cm.account.left_at IS 'When it was left.';
