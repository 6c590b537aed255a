-- Takes back human review. Reviews, their history and the time limits of policies are lost for good: have a
-- backup.

DROP VIEW cm.review_queue;

DROP TRIGGER review_event_refuse_change ON cm.review_event;
DROP TRIGGER review_record_status ON cm.review;
DROP TRIGGER review_touch_updated_at ON cm.review;
DROP FUNCTION cm.record_review_status();

DROP INDEX cm.idx_review_event_review;
DROP TABLE cm.review_event;

DROP INDEX cm.idx_review_unfinished;
DROP INDEX cm.idx_review_assigned_to;
DROP INDEX cm.idx_review_opened_by;
DROP INDEX cm.idx_review_decision;
DROP TABLE cm.review;

ALTER TABLE cm.policy DROP COLUMN review_within;

DROP TYPE cm.review_status;

DELETE FROM cm.schema_version WHERE version = 3;
