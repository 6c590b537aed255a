-- raises: ddl-in-function, ddl-in-do-block
CREATE FUNCTION cm.tidy() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP VIEW cm.open_account; END $$;
COMMENT ON FUNCTION cm.tidy() IS 'Tidies.';
SELECT cm.tidy();
