"""The service: sessions, batcher, engine, the gRPC servicer around them, its client, and the command line."""
