-- raises: adding-serial-primary-key-field
ALTER TABLE cm.event_2025 ADD CONSTRAINT event_2025_pkey PRIMARY KEY (at, body);
