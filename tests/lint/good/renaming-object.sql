ALTER INDEX cm.account_email_idx RENAME TO account_address_idx;
ALTER TABLE cm.account RENAME CONSTRAINT account_pkey TO account_key;
