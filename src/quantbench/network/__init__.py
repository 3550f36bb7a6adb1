"""``Network``: a model that is folded and traced, with its layers, blocks and rewrites."""
