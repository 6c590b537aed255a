CREATE UNIQUE INDEX CONCURRENTLY event_2025_pkey ON cm.event_2025 (at);
-- == next file ==
ALTER TABLE cm.event_2025 ADD CONSTRAINT event_2025_pkey PRIMARY KEY USING INDEX event_2025_pkey;
