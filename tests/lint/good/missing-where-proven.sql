ALTER TABLE cm.account ADD CONSTRAINT email_filled CHECK (email IS NOT NULL) NOT VALID;
-- == next file ==
ALTER TABLE cm.payment ALTER COLUMN account_id DROP NOT NULL;
-- == next file ==
UPDATE cm.account SET notes = '' WHERE email IS NOT NULL;
DELETE FROM cm.payment WHERE account_id IS NOT NULL;
UPDATE cm.account SET notes = '' WHERE email = email;
