"""Meanings of the protocol's numbers, shared by server and client."""
