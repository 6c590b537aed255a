-- raises: constraint-missing-not-valid
ALTER TABLE cm.account ADD CONSTRAINT email_filled CHECK (email IS NOT NULL) NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT email_filled;
-- == next file ==
ALTER TABLE cm.account ADD CONSTRAINT email_there NOT NULL email, DROP CONSTRAINT email_filled;
