-- raises: create-rule
CREATE OR REPLACE RULE "Gone" AS ON DELETE TO "cm"."account" WHERE OLD.id > 0
DO INSTEAD UPDATE cm.account SET state = 'closed' WHERE id = OLD.id;
