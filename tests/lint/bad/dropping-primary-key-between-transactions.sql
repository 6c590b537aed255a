-- raises: dropping-primary-key
CREATE UNIQUE INDEX CONCURRENTLY account_key ON cm.account (id, created_at);
-- == next file ==
-- transaction: none
ALTER TABLE cm.account DROP CONSTRAINT account_pkey;
ALTER TABLE cm.account ADD CONSTRAINT account_pkey PRIMARY KEY USING INDEX account_key;
