"""How executors are tested: random programs, audits on real images, and sanitizers.

``coverage`` says which tables still lack an operator.
"""
