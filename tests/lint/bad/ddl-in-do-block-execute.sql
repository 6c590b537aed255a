-- raises: ddl-in-do-block
DO $$
DECLARE
  part record;
BEGIN
  FOR part IN SELECT inhrelid::regclass AS name FROM pg_inherits LOOP
    EXECUTE format('ALTER TABLE %s SET (fillfactor = 70)', part.name);
  END LOOP;
END
$$;
