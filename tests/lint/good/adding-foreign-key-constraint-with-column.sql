-- Nothing but NULL is in a new column without a default, and PostgreSQL knows it.
ALTER TABLE cm.payment ADD COLUMN payer_id bigint REFERENCES cm.account (id);
COMMENT ON COLUMN cm.payment.payer_id IS 'Who pays.';
