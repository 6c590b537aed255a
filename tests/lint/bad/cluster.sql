-- raises: cluster
CLUSTER cm.account USING account_email_idx;
