-- raises: suppression-without-reason, ban-drop-column
-- lint: ignore ban-drop-column
ALTER TABLE cm.account DROP COLUMN notes;
