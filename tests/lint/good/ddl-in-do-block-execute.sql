DO $$
DECLARE
  part record;
BEGIN
  FOR part IN SELECT inhrelid::regclass AS name FROM pg_inherits LOOP
    EXECUTE format('INSERT INTO %s SELECT * FROM cm.event', part.name);
    EXECUTE 'ANALYZE ' || part.name;
  END LOOP;
END
$$;
