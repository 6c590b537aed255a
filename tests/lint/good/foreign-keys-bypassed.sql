ALTER TABLE cm.payment DISABLE TRIGGER USER;
INSERT INTO cm.payment (account_id, amount) VALUES (1, 0);
ALTER TABLE cm.payment ENABLE TRIGGER USER;
