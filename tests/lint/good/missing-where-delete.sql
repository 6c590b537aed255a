CREATE TABLE cm.seed (id bigint PRIMARY KEY);
INSERT INTO cm.seed VALUES (1), (2);
DELETE FROM cm.seed;
UPDATE cm.seed SET id = id + 1;
COMMENT ON TABLE cm.seed IS 'Seeds.';
COMMENT ON COLUMN cm.seed.id IS 'Key.';
