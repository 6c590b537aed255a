ALTER TABLE cm.payment RENAME TO transfer;
CREATE VIEW cm.payment AS SELECT * FROM cm.transfer;
COMMENT ON VIEW cm.payment IS 'The old name of transfer.';
