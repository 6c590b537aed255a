-- raises: ban-drop-type
DROP TYPE cm.state;
