-- raises: adding-required-field
ALTER TABLE cm.account ADD COLUMN mark text DEFAULT NULL::text NOT NULL;
COMMENT ON COLUMN cm.account.mark IS 'Mark.';
