-- lint: ignore ban-drop-column reason: no release since 3.2 reads it
ALTER TABLE cm.account DROP COLUMN notes;
