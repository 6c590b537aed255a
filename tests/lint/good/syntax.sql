ALTER TABLE cm.account
  ADD x text;
COMMENT ON COLUMN cm.account.x IS 'X.';
