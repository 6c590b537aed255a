-- raises: dropping-primary-key
ALTER TABLE cm.payment DROP CONSTRAINT payment_pkey;
ALTER TABLE cm.older DROP CONSTRAINT IF EXISTS older_pkey;
