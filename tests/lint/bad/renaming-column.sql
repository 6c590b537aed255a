-- raises: renaming-column
ALTER TABLE cm.account RENAME COLUMN email TO address;
