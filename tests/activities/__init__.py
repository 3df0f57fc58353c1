"""Activities on a real database and the Stripe simulator."""
