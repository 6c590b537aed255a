-- raises: refresh-not-concurrent
REFRESH MATERIALIZED VIEW cm.daily WITH NO DATA;
