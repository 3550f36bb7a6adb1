"""quantbench: quantization papers, reproduced and tested."""

__version__ = "0.1.0"
