-- raises: renaming-table
ALTER TABLE cm.payment RENAME TO transfer;
