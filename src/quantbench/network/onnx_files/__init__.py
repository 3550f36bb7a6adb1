"""ONNX files that others wrote: read without trust, and brought in as torch modules."""
