CREATE TABLE pg_temp.wanted (id bigint, code char(3));
CREATE INDEX ON pg_temp.wanted (id);
DELETE FROM wanted;
DROP TABLE wanted;
