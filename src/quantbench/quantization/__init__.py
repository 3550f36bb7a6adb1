"""quantbench.quantization."""
