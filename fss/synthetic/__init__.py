"""A synthetic sample collection with exact masks, for tests and first runs."""
