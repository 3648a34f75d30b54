"""From queued rows to batches and back."""
