ALTER TABLE cm.account CLUSTER ON account_email_idx;
