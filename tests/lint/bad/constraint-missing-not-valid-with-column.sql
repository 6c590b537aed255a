-- raises: constraint-missing-not-valid
ALTER TABLE cm.account ADD COLUMN rank int CHECK (rank > 0);
COMMENT ON COLUMN cm.account.rank IS 'Rank.';
