-- raises: missing-where
UPDATE cm.account SET notes = '' WHERE id IS NOT NULL;
DELETE FROM cm.payment AS p WHERE p.account_id IS NOT NULL AND true;
