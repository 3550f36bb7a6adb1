"""quantbench.reference."""
