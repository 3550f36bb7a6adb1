"""quantbench.bench."""
