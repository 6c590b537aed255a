CREATE TABLE cm.booking (
  period tstzrange,
  CONSTRAINT booking_period_excl EXCLUDE USING gist (period WITH &&)
);
COMMENT ON TABLE cm.booking IS 'Bookings.';
COMMENT ON COLUMN cm.booking.period IS 'When.';
