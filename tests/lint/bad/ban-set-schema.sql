-- raises: ban-set-schema
ALTER TABLE cm.payment SET SCHEMA public;
