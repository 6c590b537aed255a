-- raises: dropping-primary-key
CREATE UNIQUE INDEX CONCURRENTLY account_key ON cm.account (id, created_at);
-- == next file ==
SET search_path = cm;
ALTER TABLE account DROP CONSTRAINT account_pkey, ADD PRIMARY KEY USING INDEX account_key;
ALTER TABLE cm.account DROP CONSTRAINT account_key;
