"""quantbench.runs."""
