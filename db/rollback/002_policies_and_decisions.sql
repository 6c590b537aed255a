-- Takes back policies, requests, decisions and their evidence. All of it is lost for good: have a backup.

DROP VIEW cm.decision_overview;

DROP TRIGGER evidence_refuse_change ON cm.evidence;
DROP TRIGGER policy_check_refuse_change ON cm.policy_check;
DROP TRIGGER decision_refuse_change ON cm.decision;
DROP TRIGGER decision_settle_request ON cm.decision;
DROP TRIGGER decision_request_touch_updated_at ON cm.decision_request;
DROP TRIGGER policy_touch_updated_at ON cm.policy;
DROP FUNCTION cm.refuse_change();
DROP FUNCTION cm.settle_request();

DROP INDEX cm.idx_evidence_decision;
DROP TABLE cm.evidence;

DROP INDEX cm.idx_policy_check_policy_version;
DROP TABLE cm.policy_check;

DROP INDEX cm.idx_decision_decided_at;
DROP INDEX cm.idx_decision_model_version;
DROP TABLE cm.decision;

DROP INDEX cm.idx_decision_request_waiting;
DROP INDEX cm.idx_decision_request_subject;
DROP TABLE cm.decision_request;

DROP INDEX cm.idx_policy_version_open;
DROP TABLE cm.policy_version;

DROP INDEX cm.idx_policy_owner;
DROP TABLE cm.policy;

DROP TYPE cm.evidence_kind;
DROP TYPE cm.decision_outcome;
DROP TYPE cm.request_status;

DELETE FROM cm.schema_version WHERE version = 2;
