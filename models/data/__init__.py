"""Data: recordings from files, robot logs, films and public data sets. No torch here."""
