"""Presets: configurations included in the package, one TOML file each."""
