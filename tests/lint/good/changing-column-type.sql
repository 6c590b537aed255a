ALTER TABLE cm.payment ADD COLUMN account_number int;
COMMENT ON COLUMN cm.payment.account_number IS 'Whose, shorter.';
