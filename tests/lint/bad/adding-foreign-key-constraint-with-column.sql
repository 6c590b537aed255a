-- raises: adding-foreign-key-constraint
ALTER TABLE cm.payment ADD COLUMN payer_id bigint DEFAULT 1 REFERENCES cm.account (id);
COMMENT ON COLUMN cm.payment.payer_id IS 'Who pays.';
