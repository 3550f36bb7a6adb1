"""quantbench.latency."""
