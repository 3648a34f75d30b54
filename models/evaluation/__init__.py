"""Evaluation: scores of runs, baselines, and cost of a step."""
