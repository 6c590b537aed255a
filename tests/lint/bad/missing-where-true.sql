-- raises: missing-where
DELETE FROM cm.payment WHERE 1 = 1;
DELETE FROM cm.payment WHERE 1 != 2;
