"""Authentication and authorisation: identities, roles, tokens, quotas."""
