"""Readers of recordings, one format per file, found by `models.data.formats`."""
