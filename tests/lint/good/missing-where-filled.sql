UPDATE cm.account SET notes = '' WHERE email IS NOT NULL;
DELETE FROM cm.payment AS p USING cm.account AS a WHERE a.id IS NOT NULL AND a.id = p.account_id;
