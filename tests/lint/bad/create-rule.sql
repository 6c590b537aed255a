-- raises: create-rule
CREATE RULE nothing_goes AS ON DELETE TO cm.payment DO INSTEAD NOTHING;
CREATE OR REPLACE RULE doubled AS ON INSERT TO cm.account DO ALSO INSERT INTO cm.payment (account_id, amount) VALUES (NEW.id, 0);
