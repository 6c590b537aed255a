-- raises: require-concurrent-index-creation
SET search_path = cm, public;
CREATE INDEX ON account (parent_id);
