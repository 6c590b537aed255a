-- raises: ban-drop-schema
DROP SCHEMA cm CASCADE;
