-- raises: adding-not-nullable-field
ALTER TABLE cm.account ADD CONSTRAINT email_filled CHECK (email IS NOT NULL) NOT ENFORCED;
ALTER TABLE cm.account ADD COLUMN mark text CHECK (mark IS NOT NULL) NOT ENFORCED;
COMMENT ON COLUMN cm.account.mark IS 'Mark.';
-- == next file ==
ALTER TABLE cm.account ALTER COLUMN email SET NOT NULL;
ALTER TABLE cm.account ALTER COLUMN mark SET NOT NULL;
