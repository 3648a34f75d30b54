"""The versions of a model that are loaded, and how sessions go from one to another."""
