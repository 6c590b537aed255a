CREATE INDEX CONCURRENTLY account_notes_idx ON cm.account (notes);
