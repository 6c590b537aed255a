-- raises: ddl-in-function
CREATE FUNCTION cm.add_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TABLE cm.event_%s PARTITION OF cm.event FOR VALUES IN (%L)', to_char(day, 'YYYYMMDD'), day);
END
$$;
COMMENT ON FUNCTION cm.add_partition(date) IS 'Adds a partition.';
