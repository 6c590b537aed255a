-- raises: attach-partition-without-check
ALTER TABLE cm.event_2025 ADD CONSTRAINT fits CHECK (at >= '2025-01-01' AND at < '2027-01-01') NOT VALID;
-- == next file ==
ALTER TABLE cm.event_2025 VALIDATE CONSTRAINT fits;
-- == next file ==
ALTER TABLE cm.event ATTACH PARTITION cm.event_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
