-- raises: attach-partition-without-check
ALTER TABLE cm.event ATTACH PARTITION cm.event_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
