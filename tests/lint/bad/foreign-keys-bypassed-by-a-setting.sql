-- raises: foreign-keys-bypassed
SET LOCAL session_replication_role = 'replica';
INSERT INTO cm.payment (account_id, amount) VALUES (-1, 0);
SELECT set_config('session_replication_role', 'replica', true);
