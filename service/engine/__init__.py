"""Running a bundle's graphs."""
