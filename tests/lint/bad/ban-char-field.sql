-- raises: ban-char-field
ALTER TABLE cm.account ADD COLUMN country char(2);
COMMENT ON COLUMN cm.account.country IS 'Country.';
