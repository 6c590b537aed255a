DELETE FROM cm.payment AS p USING cm.account AS a WHERE a.id = p.account_id AND a.state = 'closed';
