CREATE INDEX CONCURRENTLY payment_account_idx ON cm.payment (account_id);
