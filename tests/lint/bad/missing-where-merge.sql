-- raises: missing-where
MERGE INTO cm.account USING cm.payment AS p ON true WHEN MATCHED THEN UPDATE SET amount = p.amount;
