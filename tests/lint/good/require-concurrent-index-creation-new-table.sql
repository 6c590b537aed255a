CREATE TABLE cm.note (id bigint PRIMARY KEY, body text);
CREATE INDEX note_body_idx ON cm.note (body);
ALTER TABLE cm.note ADD COLUMN kind text NOT NULL, ALTER COLUMN body SET NOT NULL, ADD CHECK (id > 0);
ALTER TABLE cm.note ADD CONSTRAINT note_body_key UNIQUE (body);
ALTER TABLE cm.note ADD CONSTRAINT note_id_fkey FOREIGN KEY (id) REFERENCES cm.account (id);
COMMENT ON TABLE cm.note IS 'Notes.';
COMMENT ON COLUMN cm.note.id IS 'Key.';
COMMENT ON COLUMN cm.note.body IS 'Text.';
COMMENT ON COLUMN cm.note.kind IS 'What sort of note.';
