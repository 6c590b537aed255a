-- raises: lock-table
LOCK TABLE cm.account IN EXCLUSIVE MODE;
