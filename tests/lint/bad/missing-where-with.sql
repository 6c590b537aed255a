-- raises: missing-where
WITH gone AS (DELETE FROM cm.payment RETURNING id)
SELECT count(*) FROM gone;
