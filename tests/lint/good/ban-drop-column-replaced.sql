ALTER TABLE cm.account ADD COLUMN remark jsonb;
ALTER TABLE cm.account DROP COLUMN remark;
