-- raises: disallowed-unique-constraint
ALTER TABLE cm.account ADD CONSTRAINT account_email_key UNIQUE (email);
