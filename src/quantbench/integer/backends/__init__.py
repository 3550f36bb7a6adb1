"""Executors of integer programs: our native kernels, the simulation, and other runtimes.

Each is compiled and called as ``base`` says, and refuses by name what it cannot run.
"""
