"""quantbench.tasks."""
