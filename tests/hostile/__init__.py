"""Attackers, and the server and its one good client that they meet."""
