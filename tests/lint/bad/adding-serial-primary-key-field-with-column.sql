-- raises: adding-serial-primary-key-field, adding-field-with-default
ALTER TABLE cm.event_2025 ADD COLUMN id bigserial PRIMARY KEY;
COMMENT ON COLUMN cm.event_2025.id IS 'Key.';
