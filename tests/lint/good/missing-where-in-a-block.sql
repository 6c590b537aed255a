DO $$
DECLARE
  before cm.state;
  batch bigint;
BEGIN
  FOR batch IN SELECT id FROM cm.account LOOP
    UPDATE cm.account SET notes = '' WHERE id = batch RETURNING state INTO STRICT before;
  END LOOP;
END
$$;
