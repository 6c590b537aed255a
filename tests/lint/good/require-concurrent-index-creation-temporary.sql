CREATE TEMP TABLE wanted AS SELECT id FROM cm.account;
CREATE INDEX ON wanted (id);
DELETE FROM wanted;
TRUNCATE wanted;
DROP TABLE wanted;
