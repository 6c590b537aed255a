-- raises: adding-field-with-default
ALTER TABLE cm.account ADD COLUMN token uuid DEFAULT gen_random_uuid();
COMMENT ON COLUMN cm.account.token IS 'Token.';
