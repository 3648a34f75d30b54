"""The sessions of one model."""
