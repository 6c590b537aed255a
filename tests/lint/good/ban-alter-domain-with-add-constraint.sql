ALTER DOMAIN cm.positive ADD CONSTRAINT positive_limit CHECK (VALUE < 1000000) NOT VALID;
-- == next file ==
ALTER DOMAIN cm.positive VALIDATE CONSTRAINT positive_limit;
