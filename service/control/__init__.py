"""Control plane: sessions, models and their versions on one server."""
