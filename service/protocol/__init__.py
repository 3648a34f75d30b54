"""What the numbers of the protocol mean, for server and client alike."""
