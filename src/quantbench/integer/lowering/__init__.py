"""From a quantized network to an integer program.

What has no integer form becomes an ``Island``, which runs in floats and says why.
"""
