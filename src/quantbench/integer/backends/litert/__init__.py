"""Programs as LiteRT files, and the runtime that executes them."""
