ALTER TABLE cm.account ADD COLUMN extra jsonb;
COMMENT ON COLUMN cm.account.extra IS 'json that can be searched.';
