-- raises: require-concurrent-index-creation
CREATE INDEX payment_account_idx ON cm.payment (account_id);
