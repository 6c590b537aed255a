-- raises: missing-where
UPDATE cm.account SET notes = '';
