ALTER DOMAIN cm.positive DROP CONSTRAINT positive_check;
