ALTER TABLE cm.account ADD COLUMN left_at timestamptz;
COMMENT ON COLUMN cm.account.left_at IS 'When it was left.';
