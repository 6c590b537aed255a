-- raises: json-column
ALTER TABLE cm.account ADD COLUMN extra json;
COMMENT ON COLUMN cm.account.extra IS 'More.';
