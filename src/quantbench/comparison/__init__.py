"""Networks side by side on the same examples: ours, another tool's, and full precision."""
