"""Integer inference."""
