-- raises: validate-in-same-transaction
ALTER TABLE cm.payment
  ADD CONSTRAINT payment_account_fkey FOREIGN KEY (account_id) REFERENCES cm.account (id) NOT VALID;
ALTER TABLE cm.payment VALIDATE CONSTRAINT payment_account_fkey;
