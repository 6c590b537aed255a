ALTER TABLE cm.account ADD CONSTRAINT email_filled CHECK (email IS NOT NULL) NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT email_filled;
-- == next file ==
ALTER TABLE cm.account ADD CONSTRAINT email_there NOT NULL email;
ALTER TABLE cm.account DROP CONSTRAINT email_filled;
