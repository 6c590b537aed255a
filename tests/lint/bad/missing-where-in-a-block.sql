-- raises: missing-where
DO $$
BEGIN
  IF EXISTS (SELECT FROM cm.account) THEN
    UPDATE cm.account SET notes = '';
  END IF;
END
$$;
