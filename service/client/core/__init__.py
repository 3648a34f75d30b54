"""Machinery of the client: channels, sending, connection and results of a stream."""
