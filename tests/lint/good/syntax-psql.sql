\set ON_ERROR_STOP on
\echo This is fine.
