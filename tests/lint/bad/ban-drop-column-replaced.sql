-- raises: ban-drop-column
ALTER TABLE cm.account ADD COLUMN notes jsonb, DROP COLUMN notes;
COMMENT ON COLUMN cm.account.notes IS 'What people say.';
