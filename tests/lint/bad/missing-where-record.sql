-- raises: missing-where
DO $$ DECLARE r record; BEGIN
  FOR r IN SELECT format('DELETE FROM cm.%I', t) AS command FROM unnest(ARRAY['payment']) t LOOP EXECUTE r.command; END LOOP;
END $$;
