DO $$ DECLARE r record; BEGIN
  FOR r IN SELECT format('DELETE FROM cm.%I WHERE id < 100', t) AS command FROM unnest(ARRAY['payment']) t LOOP
    EXECUTE r.command;
  END LOOP;
END $$;
