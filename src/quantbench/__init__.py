"""quantbench: quantization papers, reproduced and tested.

What a user needs stands here, and is imported when it is first asked for:
``import quantbench as qb`` takes a moment and no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> where it is defined, under which name; keys of results follow this table as well
PUBLIC = {
    "quantize": "quantbench.quantization.method:quantize",
    "Method": "quantbench.quantization.method:Method",
    "Job": "quantbench.quantization.method:Job",
    "Pipeline": "quantbench.quantization.method:Pipeline",
    "Paper": "quantbench.quantization.papers:Paper",
    "Network": "quantbench.network.network:Network",
    "network": "quantbench.network:by_name",
    "Scheme": "quantbench.quantization.scheme:Scheme",
    "Grid": "quantbench.quantization.scheme:Grid",
    "Override": "quantbench.quantization.scheme:Override",
    "Quantized": "quantbench.quantization.quantized:Quantized",
    "weight_range": "quantbench.calibration.weight_ranges:weight_range",
    "method": "quantbench.quantization.registry:make",
    "list_methods": "quantbench.quantization.registry:list_methods",
    "save": "quantbench.quantization.serialize:save",
    "load": "quantbench.quantization.serialize:load",
    "lower": "quantbench.integer.lowering.lower:lower",
    "compile": "quantbench.integer.backends.base:compile",
    "scheme": "quantbench.quantization.presets:scheme",
    "compare": "quantbench.comparison.compare:compare",
    "progress_bar": "quantbench.system.progress_bar:progress_bar",
    "save_onnx": "quantbench.integer.backends.onnx.file:save_onnx",
    "read_onnx": "quantbench.integer.qdq.read:read",
    "task": "quantbench.tasks.registry:task",
    "check": "quantbench.conformance:check",
    "QuantbenchError": "quantbench.errors:QuantbenchError",
    "BadInput": "quantbench.errors:BadInput",
    "CannotWrite": "quantbench.errors:CannotWrite",
    "DataCorrupt": "quantbench.errors:DataCorrupt",
    "DataMissing": "quantbench.errors:DataMissing",
    "Unsupported": "quantbench.errors:Unsupported",
}

if TYPE_CHECKING:  # the same names for editors and type checkers; a test compares the two lists
    from quantbench.calibration.weight_ranges import weight_range as weight_range
    from quantbench.comparison.compare import compare as compare
    from quantbench.conformance import check as check
    from quantbench.errors import BadInput as BadInput
    from quantbench.errors import CannotWrite as CannotWrite
    from quantbench.errors import DataCorrupt as DataCorrupt
    from quantbench.errors import DataMissing as DataMissing
    from quantbench.errors import QuantbenchError as QuantbenchError
    from quantbench.errors import Unsupported as Unsupported
    from quantbench.integer.backends.base import compile as compile  # noqa: A004 - the public word
    from quantbench.integer.backends.onnx.file import save_onnx as save_onnx
    from quantbench.integer.lowering.lower import lower as lower
    from quantbench.integer.qdq.read import read as _read
    from quantbench.network import by_name as network  # noqa: F401 - a public name
    from quantbench.network.network import Network as Network
    from quantbench.quantization.method import Job as Job
    from quantbench.quantization.method import Method as Method
    from quantbench.quantization.method import Pipeline as Pipeline
    from quantbench.quantization.method import quantize as quantize
    from quantbench.quantization.papers import Paper as Paper
    from quantbench.quantization.presets import scheme as scheme
    from quantbench.quantization.quantized import Quantized as Quantized
    from quantbench.quantization.registry import list_methods as list_methods
    from quantbench.quantization.registry import make as _make
    from quantbench.quantization.scheme import Grid as Grid
    from quantbench.quantization.scheme import Override as Override
    from quantbench.quantization.scheme import Scheme as Scheme
    from quantbench.quantization.serialize import load as load
    from quantbench.quantization.serialize import save as save
    from quantbench.system.progress_bar import progress_bar as progress_bar
    from quantbench.tasks.registry import task as task

    method = _make
    read_onnx = _read

__all__ = [*PUBLIC, "__version__"]  # noqa: PLE0604 - all of them are text


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'quantbench' has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    found = globals()[name] = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    """The public names beside what is imported already."""
    return sorted({*globals(), *PUBLIC})
