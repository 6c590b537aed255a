-- Every model has an approver: its owner, until somebody else is named.

ALTER TABLE cm.model ADD COLUMN approver_id BIGINT REFERENCES cm.actor (id);

UPDATE cm.model SET approver_id = owner_id;

INSERT INTO cm.audit_log (action, resource_type) VALUES ('approvers named', 'model');

COMMENT ON COLUMN cm.model.approver_id IS 'Who approves the versions of the model.';
