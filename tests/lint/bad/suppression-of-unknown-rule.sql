-- raises: suppression-of-unknown-rule, ban-drop-column
-- lint: ignore ban-drop-colum reason: nobody reads it
ALTER TABLE cm.account DROP COLUMN notes;
