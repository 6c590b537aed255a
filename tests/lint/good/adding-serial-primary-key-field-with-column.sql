ALTER TABLE cm.event_2025 ADD COLUMN id bigint;
COMMENT ON COLUMN cm.event_2025.id IS 'Key.';
