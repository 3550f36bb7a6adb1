"""Grids and schemes, what a method is, and the quantized network that it makes.

Methods come by name from ``registry``; ``serialize`` saves and loads what they made.
"""
