ALTER TABLE cm.account
  ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN tags text[] NOT NULL DEFAULT '{}',
  ADD COLUMN extra jsonb NOT NULL DEFAULT '{}'::jsonb,
  ADD COLUMN level int NOT NULL DEFAULT 1 + 1,
  ADD COLUMN word text DEFAULT lower('ABC'),
  ADD COLUMN cost numeric DEFAULT cm.fee(100),
  ADD COLUMN editor text DEFAULT current_user,
  ADD COLUMN token uuid;
ALTER TABLE cm.account ALTER COLUMN token SET DEFAULT gen_random_uuid();
COMMENT ON COLUMN cm.account.seen_at IS 'When it was seen.';
COMMENT ON COLUMN cm.account.tags IS 'Words.';
COMMENT ON COLUMN cm.account.extra IS 'More.';
COMMENT ON COLUMN cm.account.level IS 'How high.';
COMMENT ON COLUMN cm.account.word IS 'A word.';
COMMENT ON COLUMN cm.account.cost IS 'What it costs.';
COMMENT ON COLUMN cm.account.editor IS 'Who changed it.';
COMMENT ON COLUMN cm.account.token IS 'Token.';
