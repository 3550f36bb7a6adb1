"""quantbench.optimization."""
