-- raises: missing-where
CREATE FUNCTION cm.empty() RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
  before cm.state;
BEGIN
  DELETE FROM cm.payment;
END
$body$;
COMMENT ON FUNCTION cm.empty() IS 'Removes payments.';
