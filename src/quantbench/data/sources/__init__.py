"""quantbench.data.sources."""
