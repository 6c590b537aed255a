CREATE TABLE cm.visit (at date);
ALTER TABLE cm.visit ALTER COLUMN at TYPE timestamptz;
COMMENT ON TABLE cm.visit IS 'Visits.';
COMMENT ON COLUMN cm.visit.at IS 'When.';
