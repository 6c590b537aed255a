CREATE FUNCTION cm.next_code() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'x' $$;
COMMENT ON FUNCTION cm.next_code IS 'The next code.';
ALTER TABLE cm.account ADD COLUMN tag text DEFAULT cm.next_code();
COMMENT ON COLUMN cm.account.tag IS 'Tag.';
