-- raises: syntax
ALTER TABLE cm.account
  ADD COLUM x text;
