CREATE TABLE cm.work AS SELECT id FROM cm.account;
DROP TABLE cm.work;
