-- raises: identifier-too-long
ALTER TABLE cm.account ADD COLUMN a_name_that_is_so_long_that_postgresql_cuts_it_off_without_any_error text;
COMMENT ON COLUMN cm.account.a_name_that_is_so_long_that_postgresql_cuts_it_off_without_any_error IS 'Long.';
