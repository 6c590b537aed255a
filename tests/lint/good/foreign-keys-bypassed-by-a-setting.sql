SET LOCAL session_replication_role = 'origin';
INSERT INTO cm.payment (account_id, amount) VALUES (1, 0);
RESET session_replication_role;
