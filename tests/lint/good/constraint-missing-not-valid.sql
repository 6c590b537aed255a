ALTER TABLE cm.account ADD CONSTRAINT account_amount_check CHECK (amount >= 0) NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT account_amount_check;
