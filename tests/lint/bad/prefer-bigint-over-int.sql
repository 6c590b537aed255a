-- raises: prefer-bigint-over-int
CREATE TABLE cm.small (id serial PRIMARY KEY, kind int GENERATED ALWAYS AS IDENTITY);
COMMENT ON TABLE cm.small IS 'Small.';
COMMENT ON COLUMN cm.small.id IS 'Key.';
COMMENT ON COLUMN cm.small.kind IS 'Kind.';
