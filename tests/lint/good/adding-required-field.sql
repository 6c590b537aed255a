ALTER TABLE cm.account ADD COLUMN region text NOT NULL DEFAULT 'north';
COMMENT ON COLUMN cm.account.region IS 'Where.';
