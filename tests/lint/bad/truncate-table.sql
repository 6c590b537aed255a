-- raises: truncate-table
TRUNCATE cm.account CASCADE;
