-- raises: missing-where
DO $$
BEGIN
  MERGE INTO cm.account AS a USING cm.payment AS p ON a.id IS NOT NULL WHEN MATCHED AND 1 = 1 THEN DELETE;
END
$$;
