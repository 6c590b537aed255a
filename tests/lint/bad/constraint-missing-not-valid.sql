-- raises: constraint-missing-not-valid
ALTER TABLE cm.account ADD CONSTRAINT account_amount_check CHECK (amount >= 0);
