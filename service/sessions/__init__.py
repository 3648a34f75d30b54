"""Sessions of one model: table, state, unacknowledged results, snapshots."""
