"""The commands of ``quantbench``.

Heavy packages are imported by the command that needs them, so that listing stays quick.
"""
