ALTER TABLE cm.account ADD CONSTRAINT email_set NOT NULL email NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT email_set;
-- == next file ==
ALTER TABLE cm.account ALTER COLUMN email SET NOT NULL;
