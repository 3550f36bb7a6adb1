"""quantbench.methods."""
