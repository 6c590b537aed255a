ALTER TABLE cm.event_2025 ADD CONSTRAINT body_filled CHECK (body IS NOT NULL) NOT VALID;
-- == next file ==
ALTER TABLE cm.event_2025 VALIDATE CONSTRAINT body_filled;
-- == next file ==
CREATE UNIQUE INDEX CONCURRENTLY event_2025_key ON cm.event_2025 (body);
-- == next file ==
ALTER TABLE cm.event_2025 ADD PRIMARY KEY USING INDEX event_2025_key;
ALTER TABLE cm.event_2025 DROP CONSTRAINT body_filled;
