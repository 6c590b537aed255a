ALTER TABLE cm.account ALTER COLUMN code TYPE varchar(20);
ALTER TABLE cm.account ALTER COLUMN code TYPE varchar;
ALTER TABLE cm.account ALTER COLUMN code SET DATA TYPE text USING code::text;
ALTER TABLE cm.account ALTER COLUMN balance TYPE cm.positive;
