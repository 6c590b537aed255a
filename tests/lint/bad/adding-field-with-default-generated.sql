-- raises: adding-field-with-default
ALTER TABLE cm.account ADD COLUMN half numeric GENERATED ALWAYS AS (amount / 2) STORED;
COMMENT ON COLUMN cm.account.half IS 'Half.';
