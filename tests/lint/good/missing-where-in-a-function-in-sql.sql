CREATE FUNCTION cm.empty(bigint) RETURNS void LANGUAGE sql AS 'DELETE FROM cm.payment WHERE id = $1';
COMMENT ON FUNCTION cm.empty(bigint) IS 'Removes a payment.';
