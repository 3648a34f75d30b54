"""Recording of sessions, and replay of recordings."""
