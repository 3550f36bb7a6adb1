"""quantbench.integer.backends."""
