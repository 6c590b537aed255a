ALTER TABLE cm.account
  ADD COLUMN rank int,
  ADD CONSTRAINT account_rank_check CHECK (rank > 0) NOT VALID;
COMMENT ON COLUMN cm.account.rank IS 'Rank.';
