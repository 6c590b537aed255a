-- raises: concurrently-if-not-exists
CREATE INDEX CONCURRENTLY IF NOT EXISTS payment_account_idx ON cm.payment (account_id);
