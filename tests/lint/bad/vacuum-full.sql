-- raises: vacuum-full
VACUUM (FULL, ANALYZE) cm.payment;
