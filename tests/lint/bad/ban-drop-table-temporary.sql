-- raises: ban-drop-table
CREATE TEMPORARY TABLE wanted (id bigint);
DROP TABLE wanted, payment;
