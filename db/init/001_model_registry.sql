-- The ledger of applied versions, and the register of AI models: who owns a model, which versions of it
-- exist, and which one is allowed to decide.

CREATE SCHEMA IF NOT EXISTS cm;

CREATE TABLE IF NOT EXISTS cm.schema_version (
  version INTEGER PRIMARY KEY,
  applied_at TIMESTAMPTZ DEFAULT now(),
  description TEXT
);

COMMENT ON SCHEMA cm IS
  'Contramind: AI models, the decisions they take, and what is needed to account for them.';
COMMENT ON TABLE cm.schema_version IS 'Ledger of applied schema versions, one row per migration file.';
COMMENT ON COLUMN cm.schema_version.version IS
  'Number in front of the file name: 4 for 004_add_audit_log.sql.';
COMMENT ON COLUMN cm.schema_version.applied_at IS 'When the version was applied.';
COMMENT ON COLUMN cm.schema_version.description IS 'What the version changed, in a few words.';
COMMENT ON INDEX cm.schema_version_pkey IS 'A version is applied once.';

-- Types

CREATE DOMAIN cm.slug AS TEXT
  CONSTRAINT slug_format CHECK (VALUE ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(VALUE) <= 63);

CREATE TYPE cm.risk_level AS ENUM ('minimal', 'limited', 'high');

CREATE TYPE cm.version_status AS ENUM ('draft', 'active', 'suspended', 'retired');

COMMENT ON DOMAIN cm.slug IS 'Short name for addresses and reports: lower-case words joined by hyphens.';
COMMENT ON TYPE cm.risk_level IS
  'Risk class of a use of AI, lowest first; it sets how closely decisions are watched.';
COMMENT ON TYPE cm.version_status IS 'Life of a model version: only an active one may decide.';

-- People and services

CREATE TABLE cm.actor (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  handle cm.slug NOT NULL,
  kind TEXT NOT NULL DEFAULT 'person',
  display_name TEXT NOT NULL,
  email TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  disabled_at TIMESTAMPTZ,
  CONSTRAINT actor_handle_key UNIQUE (handle),
  CONSTRAINT actor_kind_check CHECK (kind IN ('person', 'service')),
  CONSTRAINT actor_email_check CHECK (email LIKE '%_@_%')
);

CREATE UNIQUE INDEX idx_actor_email ON cm.actor (lower(email));

COMMENT ON TABLE cm.actor IS 'People and services that own models, approve versions and review decisions.';
COMMENT ON COLUMN cm.actor.id IS 'Internal key.';
COMMENT ON COLUMN cm.actor.handle IS 'Name used to sign in and in reports.';
COMMENT ON COLUMN cm.actor.kind IS 'person or service.';
COMMENT ON COLUMN cm.actor.display_name IS 'Name as people read it.';
COMMENT ON COLUMN cm.actor.email IS 'Where notices go; a service may have none.';
COMMENT ON COLUMN cm.actor.created_at IS 'When the actor was registered.';
COMMENT ON COLUMN cm.actor.disabled_at IS
  'When the actor lost access; NULL while it has access. Actors are never deleted.';
COMMENT ON CONSTRAINT actor_kind_check ON cm.actor IS 'An actor is a person or a service.';
COMMENT ON CONSTRAINT actor_email_check ON cm.actor IS
  'Catches values that cannot be an address; not a full check.';
COMMENT ON INDEX cm.actor_pkey IS 'Primary key.';
COMMENT ON INDEX cm.actor_handle_key IS 'A handle names one actor.';
COMMENT ON INDEX cm.idx_actor_email IS 'An address belongs to one actor, whatever its case.';

-- Models and their versions

CREATE TABLE cm.model (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slug cm.slug NOT NULL,
  name TEXT NOT NULL,
  purpose TEXT NOT NULL,
  risk cm.risk_level NOT NULL DEFAULT 'limited',
  owner_id BIGINT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT model_slug_key UNIQUE (slug),
  CONSTRAINT model_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES cm.actor (id)
);

CREATE INDEX idx_model_owner ON cm.model (owner_id);

COMMENT ON TABLE cm.model IS 'AI models under governance, one row per model whatever its versions.';
COMMENT ON COLUMN cm.model.id IS 'Internal key.';
COMMENT ON COLUMN cm.model.slug IS 'Short name of the model, for example credit-limit.';
COMMENT ON COLUMN cm.model.name IS 'Name as people read it.';
COMMENT ON COLUMN cm.model.purpose IS 'What the model may be used for; any other use is out of bounds.';
COMMENT ON COLUMN cm.model.risk IS 'Risk class of that purpose.';
COMMENT ON COLUMN cm.model.owner_id IS 'Actor who answers for the model.';
COMMENT ON COLUMN cm.model.created_at IS 'When the model was registered.';
COMMENT ON COLUMN cm.model.updated_at IS 'Last change of this row; kept by a trigger.';
COMMENT ON CONSTRAINT model_owner_id_fkey ON cm.model IS 'Every model has a registered owner.';
COMMENT ON INDEX cm.model_pkey IS 'Primary key.';
COMMENT ON INDEX cm.model_slug_key IS 'A slug names one model.';
COMMENT ON INDEX cm.idx_model_owner IS 'Models of one owner; supports the foreign key.';

CREATE TABLE cm.model_version (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  model_id BIGINT NOT NULL,
  label TEXT NOT NULL,
  status cm.version_status NOT NULL DEFAULT 'draft',
  artifact_sha256 TEXT NOT NULL,
  parameters JSONB NOT NULL DEFAULT '{}',
  approved_by BIGINT,
  approved_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT model_version_model_id_label_key UNIQUE (model_id, label),
  CONSTRAINT model_version_model_id_fkey FOREIGN KEY (model_id) REFERENCES cm.model (id),
  CONSTRAINT model_version_approved_by_fkey FOREIGN KEY (approved_by) REFERENCES cm.actor (id),
  CONSTRAINT model_version_artifact_check CHECK (artifact_sha256 ~ '^[0-9a-f]{64}$'),
  CONSTRAINT model_version_parameters_check CHECK (jsonb_typeof(parameters) = 'object'),
  CONSTRAINT model_version_approval_check CHECK (
    (approved_by IS NULL) = (approved_at IS NULL)
    AND (status IN ('draft', 'retired') OR approved_at IS NOT NULL)
  )
);

CREATE INDEX idx_model_version_approved_by ON cm.model_version (approved_by);
CREATE UNIQUE INDEX idx_model_version_active ON cm.model_version (model_id) WHERE status = 'active';

COMMENT ON TABLE cm.model_version IS
  'Versions of a model: the exact artifact, its parameters and who approved it.';
COMMENT ON COLUMN cm.model_version.id IS 'Internal key.';
COMMENT ON COLUMN cm.model_version.model_id IS 'Model this is a version of.';
COMMENT ON COLUMN cm.model_version.label IS 'Version as its makers call it, for example 2.3.1.';
COMMENT ON COLUMN cm.model_version.status IS 'Where the version stands in its life.';
COMMENT ON COLUMN cm.model_version.artifact_sha256 IS 'SHA-256 of the deployed artifact, in lower-case hex.';
COMMENT ON COLUMN cm.model_version.parameters IS
  'Settings the artifact runs with, such as thresholds; a JSON object.';
COMMENT ON COLUMN cm.model_version.approved_by IS 'Actor who approved the version; NULL until then.';
COMMENT ON COLUMN cm.model_version.approved_at IS 'When it was approved; NULL until then.';
COMMENT ON COLUMN cm.model_version.created_at IS 'When the version was registered.';
COMMENT ON COLUMN cm.model_version.updated_at IS 'Last change of this row; kept by a trigger.';
COMMENT ON CONSTRAINT model_version_model_id_fkey ON cm.model_version IS 'A version belongs to a model.';
COMMENT ON CONSTRAINT model_version_approved_by_fkey ON cm.model_version IS
  'Approvers are registered actors.';
COMMENT ON CONSTRAINT model_version_artifact_check ON cm.model_version IS 'A SHA-256 is 64 hex digits.';
COMMENT ON CONSTRAINT model_version_parameters_check ON cm.model_version IS 'Parameters are a JSON object.';
COMMENT ON CONSTRAINT model_version_approval_check ON cm.model_version IS
  'An approval has both a name and a date, and no version becomes active without one.';
COMMENT ON INDEX cm.model_version_pkey IS 'Primary key.';
COMMENT ON INDEX cm.model_version_model_id_label_key IS
  'A label is used once per model; supports the foreign key.';
COMMENT ON INDEX cm.idx_model_version_approved_by IS
  'Versions approved by one actor; supports the foreign key.';
COMMENT ON INDEX cm.idx_model_version_active IS 'At most one active version per model.';

-- Keeping updated_at

CREATE FUNCTION cm.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql
SET search_path = ''
AS $$
BEGIN
  NEW.updated_at := pg_catalog.now();
  RETURN NEW;
END;
$$;

CREATE TRIGGER model_touch_updated_at
  BEFORE UPDATE ON cm.model
  FOR EACH ROW EXECUTE FUNCTION cm.touch_updated_at();

CREATE TRIGGER model_version_touch_updated_at
  BEFORE UPDATE ON cm.model_version
  FOR EACH ROW EXECUTE FUNCTION cm.touch_updated_at();

COMMENT ON FUNCTION cm.touch_updated_at() IS
  'Trigger function: sets updated_at to the time of the transaction.';
COMMENT ON TRIGGER model_touch_updated_at ON cm.model IS 'Keeps updated_at.';
COMMENT ON TRIGGER model_version_touch_updated_at ON cm.model_version IS 'Keeps updated_at.';

-- The versions in service

CREATE VIEW cm.active_model AS
SELECT
  m.slug,
  m.name,
  m.risk,
  o.handle AS owner,
  v.id AS model_version_id,
  v.label AS version,
  v.approved_at
FROM cm.model AS m
JOIN cm.actor AS o ON o.id = m.owner_id
JOIN cm.model_version AS v ON v.model_id = m.id AND v.status = 'active';

COMMENT ON VIEW cm.active_model IS 'Models in service, with the version that decides today.';
COMMENT ON COLUMN cm.active_model.slug IS 'Short name of the model.';
COMMENT ON COLUMN cm.active_model.name IS 'Name as people read it.';
COMMENT ON COLUMN cm.active_model.risk IS 'Risk class of its purpose.';
COMMENT ON COLUMN cm.active_model.owner IS 'Handle of the actor who answers for it.';
COMMENT ON COLUMN cm.active_model.model_version_id IS 'Key of the active version.';
COMMENT ON COLUMN cm.active_model.version IS 'Label of the active version.';
COMMENT ON COLUMN cm.active_model.approved_at IS 'When that version was approved.';

INSERT INTO cm.schema_version (version, description)
VALUES (1, 'Add model registry');
