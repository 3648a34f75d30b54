"""Experiments: trainings of `make results`, and the results page."""
