-- raises: require-concurrent-reindex
REINDEX TABLE cm.account;
