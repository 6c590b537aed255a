-- raises: require-concurrent-index-creation
CREATE TEMP TABLE wanted AS SELECT id FROM cm.account;
CREATE INDEX ON cm.account (parent_id);
