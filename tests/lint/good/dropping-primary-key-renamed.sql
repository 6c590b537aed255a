CREATE TABLE cm.seed (id bigint PRIMARY KEY, code text CONSTRAINT code_pkey UNIQUE);
COMMENT ON TABLE cm.seed IS 'Seeds.';
COMMENT ON COLUMN cm.seed.id IS 'Key.';
COMMENT ON COLUMN cm.seed.code IS 'Short name.';
-- == next file ==
ALTER TABLE cm.seed DROP CONSTRAINT code_pkey;
