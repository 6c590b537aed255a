CREATE DOMAIN cm.label AS text;
COMMENT ON DOMAIN cm.label IS 'Label.';
ALTER TABLE cm.account ADD COLUMN spare cm.label;
COMMENT ON COLUMN cm.account.spare IS 'Spare.';
