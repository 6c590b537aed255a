-- raises: ddl-in-do-block
DO $$
BEGIN
  ALTER TABLE cm.account ADD COLUMN mark text;
END
$$;
COMMENT ON COLUMN cm.account.mark IS 'Mark.';
