"""One client's stream."""
