"""Bridges live topics of a middleware to sessions, and publishes their predictions."""
