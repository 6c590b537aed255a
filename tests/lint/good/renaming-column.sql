ALTER TABLE cm.account ADD COLUMN adress text;
ALTER TABLE cm.account RENAME adress TO address;
COMMENT ON COLUMN cm.account.address IS 'Where letters go.';
