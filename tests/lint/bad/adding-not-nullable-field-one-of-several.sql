-- raises: adding-not-nullable-field
ALTER TABLE cm.account
  ALTER COLUMN email SET DEFAULT 'nobody',
  ALTER COLUMN email SET STATISTICS 500,
  ALTER COLUMN email SET NOT NULL;
