DELETE FROM cm.payment AS p USING cm.account AS a WHERE a.id = p.account_id AND a.state = 'closed';
DELETE FROM cm.payment WHERE amount <> 0;
DELETE FROM cm.payment WHERE 1 <> 1;
