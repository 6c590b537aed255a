-- raises: dropping-primary-key
ALTER TABLE cm.account RENAME CONSTRAINT account_pkey TO account_key;
ALTER INDEX cm.payment_pkey RENAME TO payment_key;
-- == next file ==
ALTER TABLE cm.account DROP CONSTRAINT account_key;
-- == next file ==
ALTER TABLE cm.payment DROP CONSTRAINT payment_key CASCADE;
