CREATE FUNCTION cm.count_partitions() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  RETURN (SELECT count(*) FROM pg_inherits WHERE inhparent = 'cm.event'::regclass);
END
$$;
COMMENT ON FUNCTION cm.count_partitions() IS 'Counts partitions.';
