"""Native transport: HTTP/2 and gRPC in C++, I/O by the event loop."""
