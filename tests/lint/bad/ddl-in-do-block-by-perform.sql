-- raises: ddl-in-do-block, ddl-in-function
CREATE FUNCTION cm.mark() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  ALTER TABLE cm.account ADD COLUMN mark text;
  RETURN 1;
END
$$;
COMMENT ON FUNCTION cm.mark IS 'Adds marks.';
-- == next file ==
DO $$ BEGIN PERFORM cm.mark(); END $$;
-- == next file ==
INSERT INTO cm.payment (account_id, amount) VALUES (1, cm.mark());
