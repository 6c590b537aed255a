-- Takes back the model registry. Models, their versions and all actors are lost for good: have a backup.
--
-- The schema cm and the ledger cm.schema_version stay: the ledger and its history outlive the
-- application's tables, so that it is still on record what was applied here and taken back.

DROP VIEW cm.active_model;

DROP TRIGGER model_version_touch_updated_at ON cm.model_version;
DROP TRIGGER model_touch_updated_at ON cm.model;
DROP FUNCTION cm.touch_updated_at();

DROP INDEX cm.idx_model_version_active;
DROP INDEX cm.idx_model_version_approved_by;
DROP TABLE cm.model_version;

DROP INDEX cm.idx_model_owner;
DROP TABLE cm.model;

DROP INDEX cm.idx_actor_email;
DROP TABLE cm.actor;

DROP TYPE cm.version_status;
DROP TYPE cm.risk_level;
DROP DOMAIN cm.slug;

DELETE FROM cm.schema_version WHERE version = 1;
