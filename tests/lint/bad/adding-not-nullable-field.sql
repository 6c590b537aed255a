-- raises: adding-not-nullable-field
ALTER TABLE cm.account ALTER COLUMN email SET NOT NULL;
