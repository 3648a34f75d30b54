"""Recordings: reading (no torch), splitting, batching."""
