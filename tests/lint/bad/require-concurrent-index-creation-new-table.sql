-- raises: require-concurrent-index-creation
-- The table is new only where there is none yet; the index is on another one.
CREATE TABLE cm.note (id bigint PRIMARY KEY);
COMMENT ON TABLE cm.note IS 'Notes.';
COMMENT ON COLUMN cm.note.id IS 'Key.';
CREATE INDEX payment_amount_idx ON cm.payment (amount);
