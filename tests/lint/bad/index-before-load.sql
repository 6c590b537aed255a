-- raises: index-before-load
CREATE TABLE cm.copied (id bigint PRIMARY KEY, email text);
CREATE INDEX copied_email_idx ON cm.copied (email);
INSERT INTO cm.copied SELECT id, email FROM cm.account;
COMMENT ON TABLE cm.copied IS 'Copies.';
COMMENT ON COLUMN cm.copied.id IS 'Key.';
COMMENT ON COLUMN cm.copied.email IS 'Where letters go.';
