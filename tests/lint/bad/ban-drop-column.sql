-- raises: ban-drop-column
ALTER TABLE cm.account DROP COLUMN notes;
