CREATE UNIQUE INDEX CONCURRENTLY account_key ON cm.account (id, created_at);
-- == next file ==
-- transaction: none
ALTER TABLE cm.account ADD CONSTRAINT account_key PRIMARY KEY USING INDEX account_key, DROP CONSTRAINT account_pkey;
