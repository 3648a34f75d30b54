"""Saving sessions: snapshot writer and stores."""
