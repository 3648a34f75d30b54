"""Playback: streams recordings and cameras through sessions, scores and draws the results."""
