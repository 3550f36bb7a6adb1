"""The published numbers: one TOML file of claims a paper, and what was measured here.

It holds no code; ``quantbench.claims`` reads it.
"""
