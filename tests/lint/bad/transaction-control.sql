-- raises: transaction-control
BEGIN;
UPDATE cm.account SET notes = '' WHERE id = 1;
COMMIT;
