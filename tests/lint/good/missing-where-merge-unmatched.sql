MERGE INTO cm.account AS a USING cm.payment AS p ON false
WHEN NOT MATCHED BY TARGET THEN INSERT (email) VALUES ('');
MERGE INTO cm.account AS a USING cm.payment AS p ON true
WHEN MATCHED AND a.id <> p.account_id THEN DO NOTHING
WHEN MATCHED THEN UPDATE SET amount = p.amount;
