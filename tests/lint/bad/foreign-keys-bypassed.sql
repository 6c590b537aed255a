-- raises: foreign-keys-bypassed
ALTER TABLE cm.payment DISABLE TRIGGER ALL;
INSERT INTO cm.payment (account_id, amount) VALUES (-1, 0);
ALTER TABLE cm.payment ENABLE TRIGGER ALL;
