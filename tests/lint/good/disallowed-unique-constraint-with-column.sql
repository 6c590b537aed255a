ALTER TABLE cm.account ADD COLUMN handle text;
COMMENT ON COLUMN cm.account.handle IS 'Handle.';
