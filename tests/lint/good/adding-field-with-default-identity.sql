CREATE TABLE cm.numbered (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
COMMENT ON TABLE cm.numbered IS 'Numbers.';
COMMENT ON COLUMN cm.numbered.number IS 'Number.';
