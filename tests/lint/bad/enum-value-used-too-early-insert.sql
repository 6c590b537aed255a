-- raises: enum-value-used-too-early
ALTER TYPE cm.state ADD VALUE 'held';
INSERT INTO cm.account (email, state) VALUES ('a', 'held');
