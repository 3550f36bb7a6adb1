"""What methods share that learn: objectives, descents, units of reconstruction, and resuming."""
