"""Core of the client."""
