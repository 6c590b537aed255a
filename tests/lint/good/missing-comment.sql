CREATE TABLE cm.bare (id bigint PRIMARY KEY, body text);
CREATE TABLE cm.event_2027 PARTITION OF cm.event FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
COMMENT ON TABLE cm.bare IS 'Bare.';
COMMENT ON COLUMN cm.bare.id IS 'Key.';
-- == next file ==
COMMENT ON COLUMN cm.bare.body IS 'Text.';
