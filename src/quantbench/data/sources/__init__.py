"""Public sources of the real tier: download, check and conversion."""
