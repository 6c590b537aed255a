VACUUM (ANALYZE) cm.payment;
VACUUM (FULL off) cm.payment;
ANALYZE cm.payment;
