ALTER TABLE cm.account ADD COLUMN country text;
COMMENT ON COLUMN cm.account.country IS 'Country.';
