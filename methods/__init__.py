"""Quantization methods, one file a paper, found by name through entry points.

None imports another: a pipeline names its steps and gets them from the registry.
"""
