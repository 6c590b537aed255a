ALTER TABLE cm.payment ADD CONSTRAINT payment_amount_check CHECK (amount = round(amount, 2)) NOT VALID;
