ALTER TABLE cm.account ADD COLUMN half numeric GENERATED ALWAYS AS (amount / 2) VIRTUAL;
COMMENT ON COLUMN cm.account.half IS 'Half.';
