-- raises: ban-drop-generated-expression
ALTER TABLE cm.account ALTER COLUMN total DROP EXPRESSION;
