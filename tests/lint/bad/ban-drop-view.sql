-- raises: ban-drop-view
DROP VIEW cm.open_account;
