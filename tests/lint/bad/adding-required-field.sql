-- raises: adding-required-field
ALTER TABLE cm.account ADD COLUMN region text NOT NULL;
COMMENT ON COLUMN cm.account.region IS 'Where.';
