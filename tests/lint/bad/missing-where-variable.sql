-- raises: missing-where
DO $$ DECLARE q text = 'DELETE FROM cm.payment'; BEGIN EXECUTE q; END $$;
