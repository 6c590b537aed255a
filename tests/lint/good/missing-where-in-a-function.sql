CREATE OR REPLACE FUNCTION cm.empty(bigint) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
  before cm.state;
BEGIN
  -- DELETE FROM cm.payment;
  RAISE NOTICE 'DELETE FROM cm.payment';
  DELETE FROM cm.payment WHERE id = $1;
END
$body$;
COMMENT ON FUNCTION cm.empty(bigint) IS 'Removes a payment.';
