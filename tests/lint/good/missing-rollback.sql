-- rollback: none, statistics do no harm
ALTER TABLE cm.account ALTER COLUMN email SET STATISTICS 200;
