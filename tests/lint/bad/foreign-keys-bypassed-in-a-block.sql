-- raises: foreign-keys-bypassed
DO $$
BEGIN
  SET LOCAL session_replication_role = replica;
  INSERT INTO cm.payment (account_id, amount) VALUES (-1, 0);
  RESET session_replication_role;
END
$$;
