-- raises: adding-field-with-default
ALTER TABLE cm.event_2025 ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY;
COMMENT ON COLUMN cm.event_2025.number IS 'Number.';
