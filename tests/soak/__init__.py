"""Half an hour of a server's life, in which nothing may go wrong that nobody can account for, and nothing grow."""
