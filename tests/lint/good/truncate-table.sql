CREATE TABLE cm.inbox (id bigint PRIMARY KEY);
TRUNCATE cm.inbox;
COMMENT ON TABLE cm.inbox IS 'Inbox.';
COMMENT ON COLUMN cm.inbox.id IS 'Key.';
