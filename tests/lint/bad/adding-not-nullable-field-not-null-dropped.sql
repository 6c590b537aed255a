-- raises: adding-not-nullable-field
ALTER TABLE cm.account ADD CONSTRAINT email_filled NOT NULL email NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT email_filled;
-- == next file ==
ALTER TABLE cm.account DROP CONSTRAINT email_filled;
-- == next file ==
ALTER TABLE cm.account ALTER COLUMN email SET NOT NULL;
