-- A word in a comment or a string is no statement: CREATE INDEX x ON cm.account (email);
INSERT INTO cm.account (notes) VALUES ('CREATE INDEX x ON cm.account (email); DROP TABLE cm.account;');
