-- raises: ban-drop-database
DROP DATABASE other;
