-- raises: changing-column-type
ALTER TABLE cm.payment ALTER COLUMN amount TYPE numeric(10, 2);
