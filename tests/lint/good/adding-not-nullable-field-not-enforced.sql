CREATE TABLE cm.remark (
  id bigint CHECK (id > 0) NOT ENFORCED,
  CHECK (id IS NOT NULL)
);
COMMENT ON TABLE cm.remark IS 'Remarks.';
COMMENT ON COLUMN cm.remark.id IS 'Key.';
ALTER TABLE cm.account ADD COLUMN mark bigint CHECK (mark > 0) NOT ENFORCED;
COMMENT ON COLUMN cm.account.mark IS 'Mark.';
-- == next file ==
ALTER TABLE cm.remark ALTER COLUMN id SET NOT NULL;
