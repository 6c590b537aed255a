-- raises: suppression-of-nothing
-- lint: ignore missing-where reason: it was meant for a statement that is gone
UPDATE cm.account SET notes = '' WHERE id = 1;
