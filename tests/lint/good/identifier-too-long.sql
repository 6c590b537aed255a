ALTER TABLE cm.account ADD COLUMN a_name_that_is_long_enough text;
COMMENT ON COLUMN cm.account.a_name_that_is_long_enough IS 'Long enough.';
