CREATE UNLOGGED TABLE cm.cache (key text PRIMARY KEY);
ALTER TABLE cm.cache SET LOGGED;
ALTER TABLE cm.payment SET (fillfactor = 80);
COMMENT ON TABLE cm.cache IS 'Cache.';
COMMENT ON COLUMN cm.cache.key IS 'Key.';
