"""Serving: loaded models, their runners and results."""
