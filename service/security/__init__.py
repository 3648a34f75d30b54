"""Who may do what: identities, roles, tokens, TLS, limits, and where the server listens."""
