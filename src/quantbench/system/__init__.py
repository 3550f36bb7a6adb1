"""What every other package may use: atomic files, seeds, determinism, tensors, progress."""
