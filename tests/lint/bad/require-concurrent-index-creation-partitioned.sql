-- raises: require-concurrent-index-creation
CREATE INDEX event_body_idx ON cm.event (body);
