-- raises: ban-drop-extension
DROP EXTENSION hstore;
