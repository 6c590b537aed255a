CREATE UNIQUE INDEX CONCURRENTLY account_email_key ON cm.account (email);
-- == next file ==
ALTER TABLE cm.account ADD CONSTRAINT account_email_key UNIQUE USING INDEX account_email_key;
