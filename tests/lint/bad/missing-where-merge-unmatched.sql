-- raises: missing-where
MERGE INTO cm.account AS a USING cm.payment AS p ON false
WHEN NOT MATCHED BY SOURCE THEN DELETE;
