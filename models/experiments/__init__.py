"""Experiments: what `make results` trains, and the page that it writes."""
