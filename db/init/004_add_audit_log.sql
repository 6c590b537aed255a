-- A log of who did what to which resource, from where, with the values before and after.

CREATE TABLE IF NOT EXISTS cm.audit_log (
  id BIGSERIAL PRIMARY KEY,
  ts TIMESTAMPTZ DEFAULT now(),
  user_id TEXT,
  action TEXT NOT NULL,
  resource_type TEXT,
  resource_id TEXT,
  old_values JSONB,
  new_values JSONB,
  ip_address INET,
  user_agent TEXT
);

-- Add indexes
CREATE INDEX IF NOT EXISTS idx_audit_log_ts ON cm.audit_log(ts);
CREATE INDEX IF NOT EXISTS idx_audit_log_user ON cm.audit_log(user_id);
CREATE INDEX IF NOT EXISTS idx_audit_log_action ON cm.audit_log(action);

-- Update schema version
INSERT INTO cm.schema_version (version, description)
VALUES (4, 'Add audit log table');
