-- raises: ban-drop-table
DROP TABLE IF EXISTS cm.payment CASCADE;
CREATE TABLE cm.payment (LIKE cm.account INCLUDING ALL);
COMMENT ON TABLE cm.payment IS 'The rows are gone, though.';
