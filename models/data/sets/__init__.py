"""Public data sets, one a file: where it comes from, what it holds, how its papers split it."""
