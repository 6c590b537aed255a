-- raises: disallowed-unique-constraint
ALTER TABLE cm.account ADD COLUMN handle text UNIQUE;
COMMENT ON COLUMN cm.account.handle IS 'Handle.';
