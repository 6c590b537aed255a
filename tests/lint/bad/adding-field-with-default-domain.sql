-- raises: adding-field-with-default
ALTER TABLE cm.account ADD COLUMN spare cm.positive;
COMMENT ON COLUMN cm.account.spare IS 'Spare.';
