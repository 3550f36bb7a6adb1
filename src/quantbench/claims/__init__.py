"""quantbench.claims."""
