CREATE FUNCTION cm.tidy() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DELETE FROM cm.payment WHERE id < 0; END $$;
COMMENT ON FUNCTION cm.tidy() IS 'Tidies.';
SELECT cm.tidy();
