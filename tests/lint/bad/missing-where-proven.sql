-- raises: missing-where
ALTER TABLE cm.account ADD CONSTRAINT email_filled CHECK (email IS NOT NULL) NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT email_filled;
-- == next file ==
UPDATE cm.account SET notes = '' WHERE account.email IS NOT NULL;
