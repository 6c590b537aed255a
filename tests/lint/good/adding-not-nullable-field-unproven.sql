ALTER TABLE cm.account ADD CONSTRAINT filled CHECK (email IS NOT NULL AND amount IS NOT NULL) NOT VALID;
-- == next file ==
ALTER TABLE cm.account VALIDATE CONSTRAINT filled;
ALTER TABLE cm.account
  ALTER COLUMN email SET NOT NULL,
  ALTER amount SET NOT NULL;
