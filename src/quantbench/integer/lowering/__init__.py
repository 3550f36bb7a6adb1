"""quantbench.integer.lowering."""
