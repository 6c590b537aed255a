DROP VIEW cm.open_account;
CREATE VIEW cm.open_account AS SELECT id FROM cm.account WHERE state = 'open';
COMMENT ON VIEW cm.open_account IS 'Accounts in use.';
