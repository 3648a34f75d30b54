"""Metrics and views."""
