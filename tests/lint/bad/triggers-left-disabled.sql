-- raises: triggers-left-disabled
ALTER TABLE cm.account DISABLE TRIGGER audit;
UPDATE cm.account SET notes = '' WHERE id BETWEEN 1 AND 100;
ALTER TABLE cm.account ENABLE TRIGGER other;
ALTER TABLE cm.payment ENABLE TRIGGER USER;
ALTER TABLE cm.event_2025 DISABLE TRIGGER USER;
