ALTER TABLE cm.account ADD COLUMN mark text DEFAULT NULL, ADD COLUMN seen boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN cm.account.mark IS 'Mark.';
COMMENT ON COLUMN cm.account.seen IS 'Whether somebody looked.';
