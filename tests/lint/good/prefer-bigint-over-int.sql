CREATE TABLE cm.small (id bigserial PRIMARY KEY, year int, month smallint);
COMMENT ON TABLE cm.small IS 'Small.';
COMMENT ON COLUMN cm.small.id IS 'Key.';
COMMENT ON COLUMN cm.small.year IS 'Year.';
COMMENT ON COLUMN cm.small.month IS 'Month.';
