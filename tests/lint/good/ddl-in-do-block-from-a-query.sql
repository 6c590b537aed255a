DO $$
DECLARE
  command text;
BEGIN
  FOR command IN SELECT format('SELECT count(*) FROM %I.%I', schemaname, tablename) FROM pg_tables LOOP
    EXECUTE command;
  END LOOP;
END
$$;
