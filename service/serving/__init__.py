"""Loaded models."""
