-- raises: enum-value-used-too-early
ALTER TYPE cm.state ADD VALUE 'frozen';
UPDATE cm.account SET state = 'frozen' WHERE id = 1;
