UPDATE cm.account SET notes = '' WHERE notes IS NULL;
DELETE FROM cm.payment WHERE amount = 0;
INSERT INTO cm.account (id, email) OVERRIDING SYSTEM VALUE VALUES (1, 'a')
ON CONFLICT (id) DO UPDATE SET email = excluded.email;
