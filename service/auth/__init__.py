"""Identities, roles, tokens, quotas."""
