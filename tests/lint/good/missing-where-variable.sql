DO $$ DECLARE q text = 'DELETE FROM cm.payment WHERE id < 100'; BEGIN EXECUTE q; END $$;
DO $$ BEGIN RAISE NOTICE 'DELETE FROM cm.payment'; EXECUTE current_setting('app.query'); END $$;
DO $$ DECLARE q text := 'DELETE FROM cm.payment'; BEGIN q := q || ' WHERE id < 100'; EXECUTE q; END $$;
