"""Which packages hold code that can change a number.

Keys of results follow imports through these only.

A package without effect is one whose part in a result is in the key in another way, or in no way:
what data hold is there as digests; claims choose the fields of a cell; evidence, runs, sweeps,
gate, report and cli judge, keep and show numbers that are measured already.
"""

from __future__ import annotations

EFFECTS = {
    "system": True,
    "network": True,
    "quantization": True,
    "calibration": True,
    "optimization": True,
    "search": True,
    "integer": True,
    "models": True,
    "tasks": True,
    "latency": True,
    "methods": True,
    "_native": True,  # the compiled kernels
    "__init__": False,  # public names, which are followed to where they are defined
    "__main__": False,
    "errors": False,
    "data": False,
    "claims": False,
    "reference": False,
    "evidence": False,
    "comparison": False,
    "runs": False,
    "gate": False,
    "sweeps": False,
    "report": False,
    "bench": False,
    "cli": False,
    "embedded": False,
    "conformance": False,
    "pytest_plugin": False,
}


def has_effect(module: str) -> bool:
    """Whether a module's code can change a number; everything outside of this library can."""
    library, _, rest = module.partition(".")
    return library != "quantbench" or EFFECTS[rest.partition(".")[0] or "__init__"]
