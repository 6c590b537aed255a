-- raises: index-before-load
CREATE TABLE cm.small (id bigint PRIMARY KEY, label text);
COMMENT ON TABLE cm.small IS 'Few.';
COMMENT ON COLUMN cm.small.id IS 'Key.';
COMMENT ON COLUMN cm.small.label IS 'Name.';
CREATE INDEX small_label ON cm.small (label);
INSERT INTO cm.small SELECT id, email FROM cm.account UNION ALL SELECT -id, code FROM cm.account;
