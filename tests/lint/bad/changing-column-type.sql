-- raises: changing-column-type
ALTER TABLE cm.payment ALTER COLUMN account_id TYPE int;
