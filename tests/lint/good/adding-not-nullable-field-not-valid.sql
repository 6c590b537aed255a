ALTER TABLE cm.account ADD CONSTRAINT account_email_there CHECK (NOT (email IS NULL)) NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT account_email_there;
-- == next file ==
ALTER TABLE cm.account ALTER COLUMN email SET NOT NULL;
