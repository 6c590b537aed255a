-- raises: ban-drop-sequence
DROP SEQUENCE cm.ticket;
