"""The Open Inference Protocol over the server's sessions: what Triton's clients speak. A "sequence" is a session."""
