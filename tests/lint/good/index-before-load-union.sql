CREATE TABLE cm.small (id bigint PRIMARY KEY, label text);
COMMENT ON TABLE cm.small IS 'Few.';
COMMENT ON COLUMN cm.small.id IS 'Key.';
COMMENT ON COLUMN cm.small.label IS 'Name.';
CREATE INDEX small_label ON cm.small (label);
INSERT INTO cm.small SELECT v.id, v.label FROM (VALUES (1, 'a'), (2, 'b')) AS v (id, label);
INSERT INTO cm.small SELECT * FROM unnest(ARRAY[3, 4], ARRAY['c', 'd']);
INSERT INTO cm.small SELECT number, 'x' FROM generate_series(5, 50) number;
INSERT INTO cm.small SELECT id, email FROM cm.account ORDER BY id LIMIT 10;
