"""Evaluation: scores of runs, baselines, and what a step costs."""
