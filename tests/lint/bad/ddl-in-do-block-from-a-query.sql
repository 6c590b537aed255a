-- raises: ddl-in-do-block, ban-drop-table
DO $$
DECLARE
  command text;
BEGIN
  FOR command IN SELECT format('DROP TABLE %I', tablename) FROM pg_tables WHERE tablename LIKE 'old%' LOOP
    EXECUTE command;
  END LOOP;
END
$$;
