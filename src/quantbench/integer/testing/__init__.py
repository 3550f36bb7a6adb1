"""quantbench.integer.testing."""
