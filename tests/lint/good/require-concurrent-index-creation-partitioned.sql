CREATE INDEX event_body_idx ON ONLY cm.event (body);
CREATE INDEX CONCURRENTLY event_2024_body_idx ON cm.event_2024 (body);
ALTER INDEX cm.event_body_idx ATTACH PARTITION cm.event_2024_body_idx;
