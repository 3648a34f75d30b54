"""Public data sets, one per file: origin, content and the split of the papers."""
