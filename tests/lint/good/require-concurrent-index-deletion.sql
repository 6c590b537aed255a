DROP INDEX CONCURRENTLY cm.account_email_idx;
