-- raises: ban-alter-domain-with-add-constraint
ALTER DOMAIN cm.positive ADD CONSTRAINT positive_limit CHECK (VALUE < 1000000);
