-- raises: missing-rollback
ALTER TABLE cm.account ALTER COLUMN email SET STATISTICS 200;
