-- raises: adding-exclusion-constraint
ALTER TABLE cm.account ADD CONSTRAINT account_period_excl EXCLUDE USING gist (period WITH &&);
