-- raises: rewriting-table
ALTER TABLE cm.payment SET UNLOGGED;
