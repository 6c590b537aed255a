ALTER TABLE cm.account ADD COLUMN number bigint;
ALTER TABLE cm.account ALTER COLUMN number SET DEFAULT nextval('cm.ticket');
COMMENT ON COLUMN cm.account.number IS 'Number.';
