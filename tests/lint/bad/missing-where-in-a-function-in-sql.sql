-- raises: missing-where
CREATE FUNCTION cm.empty() RETURNS void BEGIN ATOMIC DELETE FROM cm.payment; END;
COMMENT ON FUNCTION cm.empty() IS 'Removes payments.';
