ALTER TABLE cm.account ALTER COLUMN notes TYPE varchar USING notes;
