"""Streams of statestream's own protocol."""
