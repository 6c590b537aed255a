-- raises: ban-alter-identity
ALTER TABLE cm.account ALTER COLUMN id DROP IDENTITY;
