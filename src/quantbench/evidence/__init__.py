"""quantbench.evidence."""
