-- Human review of decisions: a person can be asked to look at a decision and uphold or overturn it, and
-- every step of that is on record.

CREATE TYPE cm.review_status AS ENUM ('open', 'assigned', 'upheld', 'overturned');

COMMENT ON TYPE cm.review_status IS 'Where a review stands; upheld and overturned close it.';

-- How soon a policy wants its cases reviewed

ALTER TABLE cm.policy ADD COLUMN review_within INTERVAL;

COMMENT ON COLUMN cm.policy.review_within IS 'Time a review under this policy may take; NULL sets no limit.';

-- Reviews and their history

CREATE TABLE cm.review (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  decision_id BIGINT NOT NULL,
  reason TEXT NOT NULL,
  status cm.review_status NOT NULL DEFAULT 'open',
  opened_by BIGINT NOT NULL,
  assigned_to BIGINT,
  conclusion TEXT,
  opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  closed_at TIMESTAMPTZ,
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT review_decision_id_fkey FOREIGN KEY (decision_id) REFERENCES cm.decision (id),
  CONSTRAINT review_opened_by_fkey FOREIGN KEY (opened_by) REFERENCES cm.actor (id),
  CONSTRAINT review_assigned_to_fkey FOREIGN KEY (assigned_to) REFERENCES cm.actor (id),
  CONSTRAINT review_four_eyes_check CHECK (assigned_to <> opened_by),
  CONSTRAINT review_assigned_check CHECK ((status = 'open') = (assigned_to IS NULL)),
  CONSTRAINT review_closed_check CHECK (
    num_nonnulls(closed_at, conclusion) = CASE WHEN status IN ('upheld', 'overturned') THEN 2 ELSE 0 END
  ),
  CONSTRAINT review_period_check CHECK (closed_at >= opened_at)
);

CREATE INDEX idx_review_decision ON cm.review (decision_id);
CREATE INDEX idx_review_opened_by ON cm.review (opened_by);
CREATE INDEX idx_review_assigned_to ON cm.review (assigned_to);
CREATE UNIQUE INDEX idx_review_unfinished ON cm.review (decision_id) WHERE closed_at IS NULL;

COMMENT ON TABLE cm.review IS 'Human reviews of decisions.';
COMMENT ON COLUMN cm.review.id IS 'Internal key.';
COMMENT ON COLUMN cm.review.decision_id IS 'Decision under review.';
COMMENT ON COLUMN cm.review.reason IS 'Why the decision should be looked at.';
COMMENT ON COLUMN cm.review.status IS 'Where the review stands.';
COMMENT ON COLUMN cm.review.opened_by IS 'Actor who asked for the review.';
COMMENT ON COLUMN cm.review.assigned_to IS 'Reviewer; NULL while the review is open to all.';
COMMENT ON COLUMN cm.review.conclusion IS 'The reviewer''s reasons; NULL until the review is closed.';
COMMENT ON COLUMN cm.review.opened_at IS 'When the review was asked for.';
COMMENT ON COLUMN cm.review.closed_at IS 'When it was closed; NULL until then.';
COMMENT ON COLUMN cm.review.updated_at IS 'Last change of this row; kept by a trigger.';
COMMENT ON CONSTRAINT review_decision_id_fkey ON cm.review IS 'A review is about a decision.';
COMMENT ON CONSTRAINT review_opened_by_fkey ON cm.review IS 'Only registered actors may ask for a review.';
COMMENT ON CONSTRAINT review_assigned_to_fkey ON cm.review IS 'Reviewers are registered actors.';
COMMENT ON CONSTRAINT review_four_eyes_check ON cm.review IS 'Nobody reviews what they reported themselves.';
COMMENT ON CONSTRAINT review_assigned_check ON cm.review IS
  'A review past open has a reviewer, an open one has none.';
COMMENT ON CONSTRAINT review_closed_check ON cm.review IS
  'A closed review, and only that, has an end and a conclusion.';
COMMENT ON CONSTRAINT review_period_check ON cm.review IS 'A review ends after it begins.';
COMMENT ON INDEX cm.review_pkey IS 'Primary key.';
COMMENT ON INDEX cm.idx_review_decision IS 'Reviews of one decision; supports the foreign key.';
COMMENT ON INDEX cm.idx_review_opened_by IS 'Reviews one actor asked for; supports the foreign key.';
COMMENT ON INDEX cm.idx_review_assigned_to IS 'Work of one reviewer; supports the foreign key.';
COMMENT ON INDEX cm.idx_review_unfinished IS 'At most one unfinished review per decision.';

CREATE TABLE cm.review_event (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  review_id BIGINT NOT NULL,
  old_status cm.review_status,
  new_status cm.review_status NOT NULL,
  changed_by TEXT NOT NULL,
  changed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT review_event_review_id_fkey FOREIGN KEY (review_id) REFERENCES cm.review (id),
  CONSTRAINT review_event_status_check CHECK (old_status IS DISTINCT FROM new_status)
);

CREATE INDEX idx_review_event_review ON cm.review_event (review_id, changed_at);

COMMENT ON TABLE cm.review_event IS 'Every change of a review''s status, written by a trigger.';
COMMENT ON COLUMN cm.review_event.id IS 'Internal key.';
COMMENT ON COLUMN cm.review_event.review_id IS 'Review that changed.';
COMMENT ON COLUMN cm.review_event.old_status IS 'Status before; NULL when the review was opened.';
COMMENT ON COLUMN cm.review_event.new_status IS 'Status after.';
COMMENT ON COLUMN cm.review_event.changed_by IS 'Setting cm.actor of the session, or else the database user.';
COMMENT ON COLUMN cm.review_event.changed_at IS 'When it changed.';
COMMENT ON CONSTRAINT review_event_review_id_fkey ON cm.review_event IS
  'A review with history cannot be deleted.';
COMMENT ON CONSTRAINT review_event_status_check ON cm.review_event IS 'Only real changes are recorded.';
COMMENT ON INDEX cm.review_event_pkey IS 'Primary key.';
COMMENT ON INDEX cm.idx_review_event_review IS 'History of one review in order; supports the foreign key.';

-- Behaviour

CREATE FUNCTION cm.record_review_status() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
DECLARE
  before cm.review_status;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    before := OLD.status;
    IF before = NEW.status THEN
      RETURN NULL;
    END IF;
  END IF;
  INSERT INTO cm.review_event (review_id, old_status, new_status, changed_by)
  VALUES (
    NEW.id,
    before,
    NEW.status,
    COALESCE(NULLIF(pg_catalog.current_setting('cm.actor', true), ''), CURRENT_USER)
  );
  RETURN NULL;
END;
$$;

CREATE TRIGGER review_touch_updated_at
  BEFORE UPDATE ON cm.review
  FOR EACH ROW EXECUTE FUNCTION cm.touch_updated_at();

CREATE TRIGGER review_record_status
  AFTER INSERT OR UPDATE OF status ON cm.review
  FOR EACH ROW EXECUTE FUNCTION cm.record_review_status();

CREATE TRIGGER review_event_refuse_change
  BEFORE UPDATE OR DELETE ON cm.review_event
  FOR EACH ROW EXECUTE FUNCTION cm.refuse_change();

COMMENT ON FUNCTION cm.record_review_status() IS
  'Trigger function: writes each change of status to cm.review_event.';
COMMENT ON TRIGGER review_touch_updated_at ON cm.review IS 'Keeps updated_at.';
COMMENT ON TRIGGER review_record_status ON cm.review IS 'Keeps the history of the review.';
COMMENT ON TRIGGER review_event_refuse_change ON cm.review_event IS 'History is only ever added.';

-- What reviewers have to do

CREATE VIEW cm.review_queue AS
SELECT
  w.id AS review_id,
  w.status,
  w.reason,
  w.opened_at,
  w.opened_at + (
    SELECT min(p.review_within)
    FROM cm.policy_check AS c
    JOIN cm.policy_version AS pv ON pv.id = c.policy_version_id
    JOIN cm.policy AS p ON p.id = pv.policy_id
    WHERE c.decision_id = w.decision_id
  ) AS due_at,
  a.handle AS reviewer,
  o.decision_id,
  o.model,
  o.risk,
  o.outcome
FROM cm.review AS w
JOIN cm.decision_overview AS o ON o.decision_id = w.decision_id
LEFT JOIN cm.actor AS a ON a.id = w.assigned_to
WHERE w.closed_at IS NULL;

COMMENT ON VIEW cm.review_queue IS 'Reviews that are not closed, with the time they are due.';
COMMENT ON COLUMN cm.review_queue.review_id IS 'Key of the review.';
COMMENT ON COLUMN cm.review_queue.status IS 'Where the review stands.';
COMMENT ON COLUMN cm.review_queue.reason IS 'Why the decision should be looked at.';
COMMENT ON COLUMN cm.review_queue.opened_at IS 'When the review was asked for.';
COMMENT ON COLUMN cm.review_queue.due_at IS
  'Set by the strictest policy the decision was held against; NULL if none has a limit.';
COMMENT ON COLUMN cm.review_queue.reviewer IS 'Handle of the reviewer; NULL while nobody has it.';
COMMENT ON COLUMN cm.review_queue.decision_id IS 'Key of the decision.';
COMMENT ON COLUMN cm.review_queue.model IS 'Short name of the model.';
COMMENT ON COLUMN cm.review_queue.risk IS 'Risk class of the model.';
COMMENT ON COLUMN cm.review_queue.outcome IS 'What was decided.';

INSERT INTO cm.schema_version (version, description)
VALUES (3, 'Add human review');
