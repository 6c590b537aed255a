-- Policies, the requests put to a model, the decisions it took, and the evidence kept for each of them.
-- Decisions and what proves them can be added but never changed.

-- Types

CREATE TYPE cm.request_status AS ENUM ('received', 'decided', 'withdrawn', 'failed');

CREATE TYPE cm.decision_outcome AS ENUM ('approved', 'declined', 'referred');

CREATE TYPE cm.evidence_kind AS ENUM ('attribution', 'counterfactual', 'document', 'rule_trace');

COMMENT ON TYPE cm.request_status IS 'Where a decision request stands.';
COMMENT ON TYPE cm.decision_outcome IS 'What the model decided; referred hands the case to a person.';
COMMENT ON TYPE cm.evidence_kind IS
  'What a piece of evidence is: from feature attributions to a source document.';

-- Policies and their versions

CREATE TABLE cm.policy (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slug cm.slug NOT NULL,
  title TEXT NOT NULL,
  owner_id BIGINT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT policy_slug_key UNIQUE (slug),
  CONSTRAINT policy_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES cm.actor (id)
);

CREATE INDEX idx_policy_owner ON cm.policy (owner_id);

COMMENT ON TABLE cm.policy IS 'Rules decisions have to respect, such as fair lending or data minimisation.';
COMMENT ON COLUMN cm.policy.id IS 'Internal key.';
COMMENT ON COLUMN cm.policy.slug IS 'Short name of the policy, for example fair-lending.';
COMMENT ON COLUMN cm.policy.title IS 'Title as people read it.';
COMMENT ON COLUMN cm.policy.owner_id IS 'Actor who answers for the policy.';
COMMENT ON COLUMN cm.policy.created_at IS 'When the policy was registered.';
COMMENT ON COLUMN cm.policy.updated_at IS 'Last change of this row; kept by a trigger.';
COMMENT ON CONSTRAINT policy_owner_id_fkey ON cm.policy IS 'Every policy has a registered owner.';
COMMENT ON INDEX cm.policy_pkey IS 'Primary key.';
COMMENT ON INDEX cm.policy_slug_key IS 'A slug names one policy.';
COMMENT ON INDEX cm.idx_policy_owner IS 'Policies of one owner; supports the foreign key.';

CREATE TABLE cm.policy_version (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  policy_id BIGINT NOT NULL,
  revision INTEGER NOT NULL,
  rules JSONB NOT NULL,
  effective_from TIMESTAMPTZ NOT NULL,
  effective_until TIMESTAMPTZ,
  CONSTRAINT policy_version_policy_id_revision_key UNIQUE (policy_id, revision),
  CONSTRAINT policy_version_policy_id_fkey FOREIGN KEY (policy_id) REFERENCES cm.policy (id),
  CONSTRAINT policy_version_revision_check CHECK (revision > 0),
  CONSTRAINT policy_version_rules_check CHECK (jsonb_typeof(rules) = 'array'),
  CONSTRAINT policy_version_period_check CHECK (effective_until > effective_from)
);

CREATE UNIQUE INDEX idx_policy_version_open ON cm.policy_version (policy_id) WHERE effective_until IS NULL;

COMMENT ON TABLE cm.policy_version IS
  'Wordings of a policy over time, in the form the decision service evaluates.';
COMMENT ON COLUMN cm.policy_version.id IS 'Internal key.';
COMMENT ON COLUMN cm.policy_version.policy_id IS 'Policy this is a revision of.';
COMMENT ON COLUMN cm.policy_version.revision IS 'Counts from 1 within a policy.';
COMMENT ON COLUMN cm.policy_version.rules IS 'Rules in order; a JSON array.';
COMMENT ON COLUMN cm.policy_version.effective_from IS 'First moment the revision applies.';
COMMENT ON COLUMN cm.policy_version.effective_until IS
  'First moment it no longer applies; NULL while no end is set.';
COMMENT ON CONSTRAINT policy_version_policy_id_fkey ON cm.policy_version IS 'A revision belongs to a policy.';
COMMENT ON CONSTRAINT policy_version_revision_check ON cm.policy_version IS 'Revisions count from 1.';
COMMENT ON CONSTRAINT policy_version_rules_check ON cm.policy_version IS 'Rules are a JSON array.';
COMMENT ON CONSTRAINT policy_version_period_check ON cm.policy_version IS 'A revision ends after it begins.';
COMMENT ON INDEX cm.policy_version_pkey IS 'Primary key.';
COMMENT ON INDEX cm.policy_version_policy_id_revision_key IS
  'A revision number is used once per policy; supports the foreign key.';
COMMENT ON INDEX cm.idx_policy_version_open IS 'At most one revision of a policy has no end.';

-- Requests and decisions

CREATE TABLE cm.decision_request (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  requested_by BIGINT NOT NULL,
  client_reference TEXT NOT NULL,
  subject_reference TEXT NOT NULL,
  input JSONB NOT NULL,
  status cm.request_status NOT NULL DEFAULT 'received',
  received_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT decision_request_client_reference_key UNIQUE (requested_by, client_reference),
  CONSTRAINT decision_request_requested_by_fkey FOREIGN KEY (requested_by) REFERENCES cm.actor (id),
  CONSTRAINT decision_request_input_check CHECK (jsonb_typeof(input) = 'object')
);

CREATE INDEX idx_decision_request_subject ON cm.decision_request (subject_reference);
CREATE INDEX idx_decision_request_waiting ON cm.decision_request (received_at) WHERE status = 'received';

COMMENT ON TABLE cm.decision_request IS
  'Cases put to a model for a decision, with the input as it was received.';
COMMENT ON COLUMN cm.decision_request.id IS 'Key handed to the client.';
COMMENT ON COLUMN cm.decision_request.requested_by IS 'Actor, usually a service, that asked.';
COMMENT ON COLUMN cm.decision_request.client_reference IS
  'The asker''s own key; makes a repeated request harmless.';
COMMENT ON COLUMN cm.decision_request.subject_reference IS 'Pseudonym of the person or case decided about.';
COMMENT ON COLUMN cm.decision_request.input IS 'Input as received; a JSON object.';
COMMENT ON COLUMN cm.decision_request.status IS 'Where the request stands.';
COMMENT ON COLUMN cm.decision_request.received_at IS 'When the request arrived.';
COMMENT ON COLUMN cm.decision_request.updated_at IS 'Last change of this row; kept by a trigger.';
COMMENT ON CONSTRAINT decision_request_requested_by_fkey ON cm.decision_request IS
  'Only registered actors may ask.';
COMMENT ON CONSTRAINT decision_request_input_check ON cm.decision_request IS 'Input is a JSON object.';
COMMENT ON INDEX cm.decision_request_pkey IS 'Primary key.';
COMMENT ON INDEX cm.decision_request_client_reference_key IS
  'The same reference from the same asker is the same request; supports the foreign key.';
COMMENT ON INDEX cm.idx_decision_request_subject IS 'Everything about one subject, for access requests.';
COMMENT ON INDEX cm.idx_decision_request_waiting IS 'Requests still waiting, oldest first.';

CREATE TABLE cm.decision (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  request_id UUID NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 1,
  model_version_id BIGINT NOT NULL,
  outcome cm.decision_outcome NOT NULL,
  confidence NUMERIC(5, 4),
  output JSONB NOT NULL DEFAULT '{}',
  latency_ms INTEGER,
  decided_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT decision_request_id_attempt_key UNIQUE (request_id, attempt),
  CONSTRAINT decision_request_id_fkey FOREIGN KEY (request_id) REFERENCES cm.decision_request (id),
  CONSTRAINT decision_model_version_id_fkey FOREIGN KEY (model_version_id) REFERENCES cm.model_version (id),
  CONSTRAINT decision_attempt_check CHECK (attempt > 0),
  CONSTRAINT decision_confidence_check CHECK (confidence BETWEEN 0 AND 1),
  CONSTRAINT decision_latency_ms_check CHECK (latency_ms >= 0)
);

CREATE INDEX idx_decision_model_version ON cm.decision (model_version_id);
CREATE INDEX idx_decision_decided_at ON cm.decision (decided_at);

COMMENT ON TABLE cm.decision IS
  'Decisions taken by a model. Rows are never changed: a new decision is a new attempt.';
COMMENT ON COLUMN cm.decision.id IS 'Internal key.';
COMMENT ON COLUMN cm.decision.request_id IS 'Request that was decided.';
COMMENT ON COLUMN cm.decision.attempt IS 'Counts from 1 within a request; the highest one stands.';
COMMENT ON COLUMN cm.decision.model_version_id IS 'Exact model version that decided.';
COMMENT ON COLUMN cm.decision.outcome IS 'What was decided.';
COMMENT ON COLUMN cm.decision.confidence IS 'The model''s own confidence from 0 to 1; NULL if it gives none.';
COMMENT ON COLUMN cm.decision.output IS 'Full answer of the model.';
COMMENT ON COLUMN cm.decision.latency_ms IS 'How long the model took, in milliseconds.';
COMMENT ON COLUMN cm.decision.decided_at IS 'When the decision was taken.';
COMMENT ON CONSTRAINT decision_request_id_fkey ON cm.decision IS 'A decision answers a request.';
COMMENT ON CONSTRAINT decision_model_version_id_fkey ON cm.decision IS
  'The deciding version stays on record.';
COMMENT ON CONSTRAINT decision_attempt_check ON cm.decision IS 'Attempts count from 1.';
COMMENT ON CONSTRAINT decision_confidence_check ON cm.decision IS 'Confidence is a share, not a percentage.';
COMMENT ON CONSTRAINT decision_latency_ms_check ON cm.decision IS 'No negative durations.';
COMMENT ON INDEX cm.decision_pkey IS 'Primary key.';
COMMENT ON INDEX cm.decision_request_id_attempt_key IS
  'An attempt number is used once per request; supports the foreign key.';
COMMENT ON INDEX cm.idx_decision_model_version IS 'Decisions of one model version; supports the foreign key.';
COMMENT ON INDEX cm.idx_decision_decided_at IS 'Decisions of a period, for reports.';

-- What backs a decision

CREATE TABLE cm.policy_check (
  decision_id BIGINT NOT NULL,
  policy_version_id BIGINT NOT NULL,
  passed BOOLEAN NOT NULL,
  detail JSONB,
  PRIMARY KEY (decision_id, policy_version_id),
  CONSTRAINT policy_check_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES cm.decision (id),
  CONSTRAINT policy_check_policy_version_id_fkey
    FOREIGN KEY (policy_version_id) REFERENCES cm.policy_version (id),
  CONSTRAINT policy_check_detail_check CHECK (passed OR detail IS NOT NULL)
);

CREATE INDEX idx_policy_check_policy_version ON cm.policy_check (policy_version_id);

COMMENT ON TABLE cm.policy_check IS
  'Which policy revisions a decision was held against, and whether it passed.';
COMMENT ON COLUMN cm.policy_check.decision_id IS 'Decision that was checked.';
COMMENT ON COLUMN cm.policy_check.policy_version_id IS 'Policy revision it was held against.';
COMMENT ON COLUMN cm.policy_check.passed IS 'Whether the decision respects the policy.';
COMMENT ON COLUMN cm.policy_check.detail IS 'Which rules failed and why; may be NULL after a pass.';
COMMENT ON CONSTRAINT policy_check_decision_id_fkey ON cm.policy_check IS 'A check is about a decision.';
COMMENT ON CONSTRAINT policy_check_policy_version_id_fkey ON cm.policy_check IS
  'The wording applied stays on record.';
COMMENT ON CONSTRAINT policy_check_detail_check ON cm.policy_check IS 'A failed check says why.';
COMMENT ON INDEX cm.policy_check_pkey IS 'Primary key; supports the foreign key to the decision.';
COMMENT ON INDEX cm.idx_policy_check_policy_version IS
  'Decisions held against one revision; supports the foreign key.';

CREATE TABLE cm.evidence (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  decision_id BIGINT NOT NULL,
  kind cm.evidence_kind NOT NULL,
  summary TEXT NOT NULL,
  content JSONB,
  uri TEXT,
  recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT evidence_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES cm.decision (id),
  CONSTRAINT evidence_content_check CHECK (num_nonnulls(content, uri) = 1)
);

CREATE INDEX idx_evidence_decision ON cm.evidence (decision_id);

COMMENT ON TABLE cm.evidence IS 'Explanations and sources kept for a decision, held here or pointed to.';
COMMENT ON COLUMN cm.evidence.id IS 'Internal key.';
COMMENT ON COLUMN cm.evidence.decision_id IS 'Decision the evidence is for.';
COMMENT ON COLUMN cm.evidence.kind IS 'What kind of evidence it is.';
COMMENT ON COLUMN cm.evidence.summary IS 'One sentence a reviewer can read.';
COMMENT ON COLUMN cm.evidence.content IS 'The evidence itself; NULL when it is kept elsewhere.';
COMMENT ON COLUMN cm.evidence.uri IS 'Where the evidence is kept; NULL when it is held here.';
COMMENT ON COLUMN cm.evidence.recorded_at IS 'When it was recorded.';
COMMENT ON CONSTRAINT evidence_decision_id_fkey ON cm.evidence IS 'Evidence belongs to a decision.';
COMMENT ON CONSTRAINT evidence_content_check ON cm.evidence IS
  'Evidence is either held here or pointed to, not both.';
COMMENT ON INDEX cm.evidence_pkey IS 'Primary key.';
COMMENT ON INDEX cm.idx_evidence_decision IS 'Evidence of one decision; supports the foreign key.';

-- Behaviour

CREATE FUNCTION cm.settle_request() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
  UPDATE cm.decision_request
  SET status = 'decided'
  WHERE id = NEW.request_id AND status <> 'withdrawn';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'decision request % was withdrawn and can no longer be decided', NEW.request_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END;
$$;

CREATE FUNCTION cm.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
  RAISE EXCEPTION '%.% only accepts new rows', TG_TABLE_SCHEMA, TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation', HINT = 'Record a correction as a new row.';
END;
$$;

CREATE TRIGGER policy_touch_updated_at
  BEFORE UPDATE ON cm.policy
  FOR EACH ROW EXECUTE FUNCTION cm.touch_updated_at();

CREATE TRIGGER decision_request_touch_updated_at
  BEFORE UPDATE ON cm.decision_request
  FOR EACH ROW EXECUTE FUNCTION cm.touch_updated_at();

CREATE TRIGGER decision_settle_request
  AFTER INSERT ON cm.decision
  FOR EACH ROW EXECUTE FUNCTION cm.settle_request();

CREATE TRIGGER decision_refuse_change
  BEFORE UPDATE OR DELETE ON cm.decision
  FOR EACH ROW EXECUTE FUNCTION cm.refuse_change();

CREATE TRIGGER policy_check_refuse_change
  BEFORE UPDATE OR DELETE ON cm.policy_check
  FOR EACH ROW EXECUTE FUNCTION cm.refuse_change();

CREATE TRIGGER evidence_refuse_change
  BEFORE UPDATE OR DELETE ON cm.evidence
  FOR EACH ROW EXECUTE FUNCTION cm.refuse_change();

COMMENT ON FUNCTION cm.settle_request() IS
  'Trigger function: a new decision settles its request; one for a withdrawn request is refused.';
COMMENT ON FUNCTION cm.refuse_change() IS 'Trigger function: refuses to change or delete a row.';
COMMENT ON TRIGGER policy_touch_updated_at ON cm.policy IS 'Keeps updated_at.';
COMMENT ON TRIGGER decision_request_touch_updated_at ON cm.decision_request IS 'Keeps updated_at.';
COMMENT ON TRIGGER decision_settle_request ON cm.decision IS 'A decision settles its request.';
COMMENT ON TRIGGER decision_refuse_change ON cm.decision IS 'Decisions are only ever added.';
COMMENT ON TRIGGER policy_check_refuse_change ON cm.policy_check IS 'Policy checks are only ever added.';
COMMENT ON TRIGGER evidence_refuse_change ON cm.evidence IS 'Evidence is only ever added.';

-- The decisions as a report shows them

CREATE VIEW cm.decision_overview AS
SELECT
  d.id AS decision_id,
  d.decided_at,
  r.subject_reference,
  m.slug AS model,
  v.label AS model_version,
  m.risk,
  d.outcome,
  d.confidence,
  (SELECT count(*) FROM cm.policy_check AS c WHERE c.decision_id = d.id AND NOT c.passed) AS failed_checks,
  (SELECT count(*) FROM cm.evidence AS e WHERE e.decision_id = d.id) AS evidence_count
FROM cm.decision AS d
JOIN cm.decision_request AS r ON r.id = d.request_id
JOIN cm.model_version AS v ON v.id = d.model_version_id
JOIN cm.model AS m ON m.id = v.model_id;

COMMENT ON VIEW cm.decision_overview IS
  'Decisions with the model that took them and how well they are backed.';
COMMENT ON COLUMN cm.decision_overview.decision_id IS 'Key of the decision.';
COMMENT ON COLUMN cm.decision_overview.decided_at IS 'When it was taken.';
COMMENT ON COLUMN cm.decision_overview.subject_reference IS 'Pseudonym of the person or case decided about.';
COMMENT ON COLUMN cm.decision_overview.model IS 'Short name of the model.';
COMMENT ON COLUMN cm.decision_overview.model_version IS 'Label of the version that decided.';
COMMENT ON COLUMN cm.decision_overview.risk IS 'Risk class of the model.';
COMMENT ON COLUMN cm.decision_overview.outcome IS 'What was decided.';
COMMENT ON COLUMN cm.decision_overview.confidence IS 'The model''s own confidence, from 0 to 1.';
COMMENT ON COLUMN cm.decision_overview.failed_checks IS 'How many policies the decision does not respect.';
COMMENT ON COLUMN cm.decision_overview.evidence_count IS 'How many pieces of evidence are on record.';

INSERT INTO cm.schema_version (version, description)
VALUES (2, 'Add policies, decisions and evidence');
