UPDATE cm.account SET email = 'a', notes = 'b' WHERE id = 1;
