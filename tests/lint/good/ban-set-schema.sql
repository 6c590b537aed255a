ALTER TABLE cm.payment SET SCHEMA public;
CREATE VIEW cm.payment AS SELECT * FROM public.payment;
COMMENT ON VIEW cm.payment IS 'Where payment was.';
