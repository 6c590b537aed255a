-- raises: renaming-object
ALTER FUNCTION cm.fee(numeric) RENAME TO cost;
