-- raises: ddl-in-do-block, ban-drop-table
DO $$ DECLARE q text; BEGIN q := 'DROP TABLE cm.payment'; EXECUTE q; q := 'SELECT 1'; EXECUTE q; END $$;
