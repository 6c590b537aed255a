WITH gone AS (DELETE FROM cm.payment WHERE id < 10 RETURNING id)
SELECT count(*) FROM gone;
