"""quantbench.system."""
