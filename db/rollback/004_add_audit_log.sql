-- Takes back the audit log. Its entries are lost for good: have a backup.

DROP INDEX cm.idx_audit_log_action;
DROP INDEX cm.idx_audit_log_user;
DROP INDEX cm.idx_audit_log_ts;
DROP TABLE cm.audit_log;

DELETE FROM cm.schema_version WHERE version = 4;
