-- transaction: none
CREATE UNIQUE INDEX CONCURRENTLY account_new_key ON cm.account (id, created_at);
-- == next file ==
ALTER TABLE cm.account DROP CONSTRAINT account_pkey, ADD CONSTRAINT account_pkey PRIMARY KEY USING INDEX account_new_key;
ALTER TABLE cm.account DROP CONSTRAINT IF EXISTS account_email_check;
