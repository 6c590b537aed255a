-- Takes back the approvers. Who was named is lost for good.

ALTER TABLE cm.model DROP COLUMN approver_id;

DELETE FROM cm.audit_log WHERE action = 'approvers named';
