-- raises: missing-rollback, syntax
-- rollback: none
ALTER TABLE cm.account ALTER COLUMN email SET STATISTICS 200;
