CREATE TABLE cm.payment_new (LIKE cm.payment INCLUDING ALL);
ALTER TABLE cm.payment RENAME TO payment_old;
ALTER TABLE cm.payment_new RENAME TO payment;
COMMENT ON TABLE cm.payment IS 'Payments.';
