"""Data that the project makes itself, from a seed: shapes, scenes, and texts with questions."""
