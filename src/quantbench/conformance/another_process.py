"""A program: the digests of a method on some networks, for comparison with another process."""

from __future__ import annotations

import json
import sys

import torch

from quantbench.conformance.observation import Case
from quantbench.conformance.subject import complete, quick
from quantbench.quantization.registry import make


def digests(name: str, keys: list[str]) -> dict[str, str]:
    """By ``FAMILY/SCHEME``."""
    method = complete(quick(make(name)))
    return {key: Case(method, *key.split("/")).run().digest for key in keys}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps(digests(sys.argv[2], sys.argv[3:])))
