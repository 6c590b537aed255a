DO $$
BEGIN
  SET LOCAL search_path = cm;
  INSERT INTO payment (account_id, amount) VALUES (1, 0);
  RESET search_path;
END
$$;
