-- raises: ban-drop-domain
DROP DOMAIN cm.positive;
