"""Discrete choices: bits per layer within a budget, and codes that minimise a quadratic form."""
