-- raises: require-concurrent-index-deletion
DROP INDEX cm.account_email_idx;
