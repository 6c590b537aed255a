-- raises: missing-comment
CREATE FUNCTION cm.twice(int) RETURNS int LANGUAGE sql RETURN $1 * 2;
CREATE TYPE cm.colour AS ENUM ('red');
CREATE VIEW cm.rich AS SELECT id FROM cm.account;
ALTER TABLE cm.account ADD COLUMN colour cm.colour;
