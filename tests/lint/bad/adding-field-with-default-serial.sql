-- raises: adding-field-with-default
ALTER TABLE cm.account ADD COLUMN number bigserial;
COMMENT ON COLUMN cm.account.number IS 'Number.';
