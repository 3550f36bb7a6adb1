"""quantbench.cli."""
