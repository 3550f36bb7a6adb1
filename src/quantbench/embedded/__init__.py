"""The embedded tier: images, texts and checkpoints that the project makes itself.

``python -m quantbench.embedded`` makes them.
"""
