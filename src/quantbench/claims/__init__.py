"""Published numbers as claims: the TOML files, their catalogue, and selection."""
