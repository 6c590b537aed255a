-- What is there before each sample, as its first migration.
CREATE SCHEMA cm;
COMMENT ON SCHEMA cm IS 'Samples.';

CREATE TYPE cm.state AS ENUM ('open', 'closed');
COMMENT ON TYPE cm.state IS 'Life of an account.';

CREATE DOMAIN cm.positive AS numeric CHECK (VALUE > 0);
COMMENT ON DOMAIN cm.positive IS 'More than nothing.';

CREATE SEQUENCE cm.ticket;
COMMENT ON SEQUENCE cm.ticket IS 'Numbers of tickets.';

CREATE TABLE cm.account (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email text,
  code varchar(10),
  amount numeric(10, 2),
  balance cm.positive,
  state cm.state NOT NULL DEFAULT 'open',
  notes text,
  total numeric GENERATED ALWAYS AS (amount * 2) STORED,
  parent_id bigint,
  period tstzrange,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX account_email_idx ON cm.account (email);
COMMENT ON TABLE cm.account IS 'Accounts.';
COMMENT ON COLUMN cm.account.id IS 'Key.';
COMMENT ON COLUMN cm.account.email IS 'Where letters go.';
COMMENT ON COLUMN cm.account.code IS 'Short name.';
COMMENT ON COLUMN cm.account.amount IS 'What is in it.';
COMMENT ON COLUMN cm.account.balance IS 'What is left.';
COMMENT ON COLUMN cm.account.state IS 'Where it stands.';
COMMENT ON COLUMN cm.account.notes IS 'What people say.';
COMMENT ON COLUMN cm.account.total IS 'Twice the amount.';
COMMENT ON COLUMN cm.account.parent_id IS 'The account above.';
COMMENT ON COLUMN cm.account.period IS 'When it counts.';
COMMENT ON COLUMN cm.account.created_at IS 'When it was made.';

CREATE TABLE cm.payment (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account_id bigint NOT NULL,
  amount numeric NOT NULL
);
COMMENT ON TABLE cm.payment IS 'Payments.';
COMMENT ON COLUMN cm.payment.id IS 'Key.';
COMMENT ON COLUMN cm.payment.account_id IS 'Whose.';
COMMENT ON COLUMN cm.payment.amount IS 'How much.';

CREATE TABLE cm.event (
  at date NOT NULL,
  body text
) PARTITION BY RANGE (at);
COMMENT ON TABLE cm.event IS 'Events.';
COMMENT ON COLUMN cm.event.at IS 'When.';
COMMENT ON COLUMN cm.event.body IS 'What.';
CREATE TABLE cm.event_2024 PARTITION OF cm.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');

CREATE TABLE cm.event_2025 (at date NOT NULL, body text);
COMMENT ON TABLE cm.event_2025 IS 'Events that are no part of the rest yet.';
COMMENT ON COLUMN cm.event_2025.at IS 'When.';
COMMENT ON COLUMN cm.event_2025.body IS 'What.';

CREATE MATERIALIZED VIEW cm.daily AS SELECT account_id, sum(amount) AS amount FROM cm.payment GROUP BY account_id;
CREATE UNIQUE INDEX daily_account_idx ON cm.daily (account_id);
COMMENT ON MATERIALIZED VIEW cm.daily IS 'Payments by account.';

CREATE VIEW cm.open_account AS SELECT id, email FROM cm.account WHERE state = 'open';
COMMENT ON VIEW cm.open_account IS 'Accounts in use.';

CREATE FUNCTION cm.fee(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN $1 / 100;
COMMENT ON FUNCTION cm.fee IS 'What a payment costs.';
