-- raises: triggers-left-disabled
ALTER TABLE cm.account ENABLE TRIGGER audit; ALTER TABLE cm.account DISABLE TRIGGER audit;
ALTER TABLE cm.account ENABLE TRIGGER "Audit", ENABLE REPLICA TRIGGER audit;
