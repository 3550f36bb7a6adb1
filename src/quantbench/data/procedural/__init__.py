"""quantbench.data.procedural."""
