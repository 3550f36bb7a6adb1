"""The benchmark as pytest tests: the claims, and speed and exactness on trained networks."""
