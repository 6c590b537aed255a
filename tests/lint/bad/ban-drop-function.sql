-- raises: ban-drop-function
DROP FUNCTION cm.fee(numeric);
