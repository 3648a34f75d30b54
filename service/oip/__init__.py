"""Open Inference Protocol, as Triton's clients speak it. A "sequence" is a session."""
