-- raises: missing-comment
CREATE TABLE cm.bare (id bigint PRIMARY KEY, body text);
COMMENT ON COLUMN cm.bare.id IS 'Key.';
