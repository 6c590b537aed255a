-- raises: changing-column-type
ALTER TABLE cm.account ALTER COLUMN notes TYPE text USING trim(notes);
