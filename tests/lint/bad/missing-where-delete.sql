-- raises: missing-where
DELETE FROM ONLY cm.payment;
