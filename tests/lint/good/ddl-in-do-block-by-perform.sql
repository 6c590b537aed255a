CREATE FUNCTION cm.mark() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  CREATE TEMPORARY TABLE IF NOT EXISTS marked (id bigint);
  RETURN 1;
END
$$;
COMMENT ON FUNCTION cm.mark IS 'Collects marks.';
DO $$ BEGIN PERFORM cm.mark(); END $$;
INSERT INTO cm.payment (account_id, amount) VALUES (1, cm.mark());
