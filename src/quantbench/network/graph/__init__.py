"""A network as the calls of one real forward pass."""
