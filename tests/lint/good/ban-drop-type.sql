CREATE TYPE cm.pair AS (a int, b int);
DROP TYPE cm.pair;
