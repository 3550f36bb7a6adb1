"""Networks of other libraries by name, from files and caches on this machine.

``quantbench.network("torchvision/resnet18")`` looks the source up by what stands in front of the
first slash; a name that ends in ``.onnx`` is a file. Nothing is downloaded: what is missing is
named with the command that gets it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from quantbench.errors import BadInput, did_you_mean
from quantbench.network.network import Network
from quantbench.network.plain.given import Output, Sample
from quantbench.network.sources.found import Found

# where ``find(name, generator)`` stands, by what comes before the first slash
SOURCES = {
    source: f"quantbench.network.sources.{source}"
    for source in ("torchvision", "timm", "transformers")
}


def network(
    name: str,
    sample: Sample | None = None,
    *,
    output: Output | None = None,
    generator: torch.Generator | None = None,
    **more: Any,
) -> Network:
    """A network by name, looked at and ready to be quantized.

    Args:
        name: ``torchvision/NETWORK`` or ``torchvision/NETWORK@WEIGHTS``, ``timm/NETWORK``, or
            ``transformers/FOLDER`` or ``transformers/OWNER/MODEL``; or the path of an ONNX file.
        sample: a small batch of inputs; noise of the shape that the source states unless given.
        output: which output, as for :meth:`Network.of`.
        generator: if given, weights are random ones from it, and none are read.
        more: of :meth:`Network.of`.

    Raises:
        BadInput: no such source or network.
        DataMissing: weights that are not on this machine.
        DataCorrupt: weights that are not what they should be.

    """
    if name.endswith(".onnx"):
        from quantbench.network.onnx_files.from_onnx import network_from_onnx

        if generator is not None:
            raise BadInput(f"{name}: the weights are in the file, and a generator was given")
        if sample is not None and not isinstance(sample, Tensor):
            raise BadInput(f"{name}: an ONNX file takes one tensor; the sample is another thing")
        return network_from_onnx(name, sample, output=output, **more)
    source, _, rest = name.partition("/")
    if source not in SOURCES or not rest:
        hint = did_you_mean(f"{source}/", [f"{s}/" for s in SOURCES])
        raise BadInput(f"no source of networks for {name!r}{hint}")
    found: Found = import_module(SOURCES[source]).find(rest, generator)
    given = {"kinds": found.kinds, **more}
    inputs = found.sample if sample is None else sample
    wanted = found.output if output is None else output
    return Network.of(found.model, inputs, name=name, output=wanted, **given)
