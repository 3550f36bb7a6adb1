"""A network without torch code: an ONNX file as a torch module that methods can quantize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from quantbench.errors import BadInput, Unsupported
from quantbench.network.checks.same import SAME
from quantbench.network.network import Network
from quantbench.network.onnx_files.activations import restore_silu
from quantbench.network.onnx_files.linears import restore_linear
from quantbench.network.onnx_files.prepare import prepared
from quantbench.network.onnx_files.reading import called, read_onnx, require_installed
from quantbench.network.onnx_files.runtime import run, session

if TYPE_CHECKING:
    import onnx

EXAMPLES = 2  # of the sample


def from_onnx(path: str | Path, sample: Tensor | None = None) -> nn.Module:
    """A classifier of an ONNX file, compared with ONNX Runtime, as a torch module.

    Batch norm that the exporter left, activations and layers become torch's own modules. A file
    that was made for one image at a time takes batches of any size here.

    Args:
        path: of the file; weights may lie beside it.
        sample: inputs (N, ...) to compare on; drawn from a bell where the file has all sizes.

    Raises:
        BadInput: a damaged file, sizes that only a sample can tell, another output than ONNX
            Runtime's on the sample.
        Unsupported: operators that have no torch form; the extra ``onnx`` is not installed.

    """
    require_installed("onnx2torch", f"{path} is an ONNX file, and")
    model = read_onnx(path)
    given = _input(model, path)
    inputs = _sample(given, path) if sample is None else sample
    module = _converted(prepared(model, path), path)
    restore_silu(module)
    restore_linear(module)
    _require_same(module, model, inputs, path)
    return module


def network_from_onnx(path: str | Path, sample: Tensor | None = None, **about: Any) -> Network:
    """:class:`quantbench.Network` of an ONNX file.

    Args:
        path: of the file.
        sample: inputs (N, ...); drawn where the file has all sizes.
        about: what ``Network.of`` takes besides: ``name``, ``blocks``, ``stages``.

    Raises:
        BadInput: what ``from_onnx`` and ``Network.of`` refuse.
        Unsupported: operators that have no torch form.

    """
    module = from_onnx(path, sample)
    if sample is None:
        sample = onnx_sample(path)
    return Network.of(module, sample, **{"name": Path(path).stem, **about})


def onnx_sample(path: str | Path, examples: int = EXAMPLES) -> Tensor:
    """Inputs of the right shape, from a bell; the same each time.

    Raises:
        BadInput: sizes that the file leaves open.

    """
    model = read_onnx(path)
    return _sample(_input(model, path), path, examples)


def _input(model: onnx.ModelProto, path: str | Path) -> onnx.ValueInfoProto:
    """The only input of a model, floats.

    Raises:
        Unsupported: several, or of another type.

    """
    import onnx

    stored = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(repr(i.name) for i in inputs) or "none"
        raise Unsupported(f"{path}: takes {len(inputs)} inputs ({names}); a classifier takes one")
    if len(model.graph.output) != 1:
        names = ", ".join(repr(o.name) for o in model.graph.output)
        raise Unsupported(f"{path}: gives {len(model.graph.output)} outputs ({names}), not one")
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        word = onnx.TensorProto.DataType.Name(kind).lower()
        raise Unsupported(f"{path}: its input {inputs[0].name!r} is {word}, not float32")
    return inputs[0]


def _sample(given: onnx.ValueInfoProto, path: str | Path, examples: int = EXAMPLES) -> Tensor:
    sizes = [d.dim_value for d in given.type.tensor_type.shape.dim][1:]
    if not sizes or not all(sizes):
        shown = ", ".join(str(s or "?") for s in sizes) or "nothing"
        raise BadInput(
            f"{path}: says of its input {given.name!r} that an example has the sizes ({shown}): "
            "give a sample, a tensor (N, ...) of inputs"
        )
    return torch.randn(examples, *sizes, generator=torch.Generator().manual_seed(0))


def _converted(model: onnx.ModelProto, path: str | Path) -> nn.Module:
    """The module that onnx2torch makes; what it does not know is refused by name."""
    import onnx2torch

    try:
        made: nn.Module = onnx2torch.convert(model, attach_onnx_mapping=True)
    except NotImplementedError as e:
        raise Unsupported(f"{path}: {_unknown(model, str(e))}") from e
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise Unsupported(
            f"{path}: onnx2torch cannot bring it in ({type(e).__name__}: {text})"
        ) from e
    return made.eval()


def _unknown(model: onnx.ModelProto, text: str) -> str:
    """Which node has no torch form, from the words of onnx2torch."""
    for node in model.graph.node:
        if f"operation_type='{node.op_type}'" in text:
            return f"{called(node)} has no torch form in onnx2torch"
    return f"onnx2torch: {text}"


@torch.no_grad()
def _require_same(
    module: nn.Module, model: onnx.ModelProto, inputs: Tensor, path: str | Path
) -> None:
    """See that the module gives what ONNX Runtime gives on the file.

    Raises:
        BadInput: it does not; names the first node whose output differs.

    """
    try:
        ours = module(inputs)
    except Exception as e:
        text = " ".join(str(e).split())[:200]
        raise BadInput(
            f"{path}: does not run on a sample {tuple(inputs.shape)}{_fixed(model)}: {text}"
        ) from e
    try:
        theirs = _answers(model, inputs)
    except BadInput as e:
        raise BadInput(f"{path}: {e}") from e
    if not _close(ours, theirs):
        off = float((ours - theirs).norm() / theirs.norm()) if ours.shape == theirs.shape else 1.0
        raise BadInput(
            f"{path}: as a torch module it differs from ONNX Runtime by {off:.1%} on the sample; "
            f"{_first_difference(module, model, inputs)}"
        )


def _fixed(model: onnx.ModelProto) -> str:
    """What a file says that was exported for batches of one size, which something in it keeps."""
    stored = {i.name for i in model.graph.initializer}
    (given,) = [i for i in model.graph.input if i.name not in stored]
    size = given.type.tensor_type.shape.dim[0].dim_value
    return f" (was exported for batches of {size}: export it with a free first size)" * bool(size)


def _answers(model: onnx.ModelProto, inputs: Tensor) -> Tensor:
    """ONNX Runtime's output; image by image where the file was made for one."""
    opened = session(model)
    fixed = opened.get_inputs()[0].shape[0]
    step = fixed if isinstance(fixed, int) else len(inputs)
    if len(inputs) % step:
        raise BadInput(f"was made for batches of {step}, and the sample has {len(inputs)} examples")
    x = inputs.numpy()
    parts = [run(opened, x[i : i + step])[0] for i in range(0, len(x), step)]
    return torch.from_numpy(np.concatenate(parts))


def _first_difference(module: nn.Module, model: onnx.ModelProto, inputs: Tensor) -> str:
    """The first node whose output differs, with all tensors of both shown."""
    import onnx

    ours: dict[str, Tensor] = {}

    def keep(layer: nn.Module, _: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            mapping: Any = layer.onnx_mapping
            ours[mapping.outputs[0]] = out.clone()

    layers = [m for m in module.modules() if hasattr(m, "onnx_mapping")]
    hooks = [m.register_forward_hook(keep) for m in layers]
    module(inputs)
    for hook in hooks:
        hook.remove()
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    have = {o.name for o in shown.graph.output}
    makers = [n for n in shown.graph.node if n.output[0] in ours]
    shown.graph.output.extend(
        onnx.ValueInfoProto(name=n.output[0]) for n in makers if n.output[0] not in have
    )
    opened = session(shown, optimize=False)
    fixed = opened.get_inputs()[0].shape[0]
    x = inputs[: fixed if isinstance(fixed, int) else len(inputs)].numpy()
    names = [n.output[0] for n in makers]
    for node, theirs in zip(makers, run(opened, x, names), strict=True):
        mine = ours[node.output[0]][: len(theirs)] if theirs.ndim else ours[node.output[0]]
        if not _close(mine, torch.from_numpy(np.asarray(theirs))):
            return f"the first node whose output differs is {called(node)}"
    return "no single node differs"


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    if not a.is_floating_point() or not b.is_floating_point():
        return torch.equal(a, b)
    limit = SAME * float(b.abs().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=SAME, atol=limit, equal_nan=True)
