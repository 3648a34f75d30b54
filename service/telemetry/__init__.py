"""Metrics, and samples of what a server is doing."""
