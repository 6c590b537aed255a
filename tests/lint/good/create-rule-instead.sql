CREATE VIEW cm.closed_account AS SELECT id, email FROM cm.account WHERE state = 'closed';
COMMENT ON VIEW cm.closed_account IS 'Accounts that nobody uses.';
CREATE OR REPLACE RULE gone AS ON DELETE TO cm.closed_account DO INSTEAD DELETE FROM cm.account WHERE id = OLD.id;
