ALTER TYPE cm.state ADD VALUE IF NOT EXISTS 'frozen' AFTER 'open';
-- == next file ==
UPDATE cm.account SET state = 'frozen' WHERE id = 1;
CREATE TYPE cm.mood AS ENUM ('good');
ALTER TYPE cm.mood ADD VALUE 'bad';
SELECT 'bad'::cm.mood;
COMMENT ON TYPE cm.mood IS 'Mood.';
