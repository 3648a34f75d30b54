"""Snapshots and where they are stored."""
