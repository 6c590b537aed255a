-- raises: adding-foreign-key-constraint
ALTER TABLE cm.payment ADD CONSTRAINT payment_account_fkey FOREIGN KEY (account_id) REFERENCES cm.account (id);
