"""quantbench.network."""
