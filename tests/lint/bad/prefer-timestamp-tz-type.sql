-- raises: prefer-timestamp-tz
CREATE TABLE cm.visit (at timestamptz);
ALTER TABLE cm.visit ALTER COLUMN at TYPE timestamp;
COMMENT ON TABLE cm.visit IS 'Visits.';
COMMENT ON COLUMN cm.visit.at IS 'When.';
