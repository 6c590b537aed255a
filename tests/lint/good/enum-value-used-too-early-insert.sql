ALTER TYPE cm.state ADD VALUE 'held';
INSERT INTO cm.account (email, notes) VALUES ('a', 'held');
UPDATE cm.account SET notes = 'held' WHERE id = 1;
ALTER TABLE cm.account ADD COLUMN reason text DEFAULT 'held';
COMMENT ON COLUMN cm.account.reason IS 'Why.';
