-- Nobody reads the audit log, somebody thought.

DROP TABLE cm.audit_log;
