MERGE INTO cm.account AS a USING cm.payment AS p ON p.account_id = a.id WHEN MATCHED THEN UPDATE SET amount = p.amount;
MERGE INTO cm.account AS a USING cm.payment AS p ON true WHEN MATCHED AND a.id = p.account_id THEN DELETE;
