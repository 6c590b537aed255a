SET search_path = cm; ALTER TABLE account DISABLE TRIGGER audit; ALTER TABLE cm.account ENABLE TRIGGER audit;
ALTER TABLE cm.payment DISABLE TRIGGER stamp;
DROP TRIGGER stamp ON cm.payment;
