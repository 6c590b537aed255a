CREATE UNIQUE INDEX CONCURRENTLY account_key ON cm.account (id, created_at);
-- == next file ==
SET search_path = cm;
ALTER TABLE account DROP CONSTRAINT account_pkey;
ALTER TABLE cm.account ADD PRIMARY KEY USING INDEX account_key;
