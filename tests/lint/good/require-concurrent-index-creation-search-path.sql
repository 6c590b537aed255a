SET LOCAL search_path = cm;
CREATE TABLE remark (id bigint PRIMARY KEY);
CREATE INDEX ON cm.remark (id);
COMMENT ON TABLE cm.remark IS 'Remarks.';
COMMENT ON COLUMN remark.id IS 'Key.';
