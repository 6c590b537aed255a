-- raises: adding-not-nullable-field
CREATE UNIQUE INDEX CONCURRENTLY event_2025_key ON cm.event_2025 (at, body);
-- == next file ==
ALTER TABLE cm.event_2025 ADD PRIMARY KEY USING INDEX event_2025_key;
