-- raises: changing-column-type
ALTER TABLE cm.account ALTER COLUMN code TYPE varchar(5);
