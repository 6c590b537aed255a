ALTER TABLE cm.account ADD COLUMN mark text;
COMMENT ON COLUMN cm.account.mark IS 'Mark.';
DO $$
BEGIN
  CREATE TEMP TABLE wanted (id bigint);
  INSERT INTO wanted SELECT id FROM cm.account;
  RAISE NOTICE 'ALTER TABLE cm.account ADD COLUMN mark text';
  PERFORM pg_notify('done', 'CREATE INDEX');
  DROP TABLE wanted;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reader') THEN
    CREATE ROLE reader NOLOGIN;
  END IF;
END
$$;
