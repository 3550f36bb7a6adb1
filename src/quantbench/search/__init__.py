"""quantbench.search."""
