-- raises: require-concurrent-index-creation
SELECT pg_catalog.set_config('search_path', 'cm', false);
CREATE INDEX ON account (parent_id);
