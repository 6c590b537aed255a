-- raises: ban-duplicate-column-assignments
UPDATE cm.account SET email = 'a', email = 'b' WHERE id = 1;
