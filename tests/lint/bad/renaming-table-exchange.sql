-- raises: renaming-table
ALTER TABLE cm.payment RENAME TO payment_old;
ALTER TABLE cm.event_2025 RENAME TO event_next;
