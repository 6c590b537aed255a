SELECT pg_catalog.set_config('search_path', 'other', false);
CREATE TABLE account (id bigint PRIMARY KEY, email text);
CREATE INDEX ON other.account (email);
COMMENT ON TABLE account IS 'Accounts of others.';
COMMENT ON COLUMN account.id IS 'Key.';
COMMENT ON COLUMN account.email IS 'Where letters go.';
