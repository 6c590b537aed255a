INSERT INTO cm.account (notes) VALUES ('
-- lint: ignore missing-where reason: this is text
');
