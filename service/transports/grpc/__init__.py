"""gRPC transport: services, listeners, authentication."""
