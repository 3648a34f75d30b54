"""Batching: from queued rows to engine calls and back to results."""
