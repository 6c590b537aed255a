-- raises: ddl-in-do-block, require-concurrent-index-creation
DO LANGUAGE plpgsql '
DECLARE
  command text := ''CREATE INDEX account_notes_idx ON cm.account (notes)'';
BEGIN
  EXECUTE command;
END';
