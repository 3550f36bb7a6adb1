"""From a model's description to a checked module, and the blocks and stages in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from quantbench.data import packaged
from quantbench.errors import BadInput
from quantbench.models.catalog import ModelSpec, spec
from quantbench.models.checkpoint import checkpoint
from quantbench.models.cifar_resnet import ApotResNet20, CifarResNet
from quantbench.models.deeplab import DeepLabV3
from quantbench.models.googlenet import GoogLeNet
from quantbench.models.inverted_residual import EfficientNetLite0, MobileNetV2
from quantbench.models.mobilenet import MobileNetV1, ShapesMobileNet
from quantbench.models.nanodet import NanoDetM
from quantbench.models.released import weights as released
from quantbench.network.blocks import stages as stages  # noqa: PLC0414 - a name of this module, too


def pretrained(
    name: str, *, weights: bool = True, generator: torch.Generator | None = None
) -> nn.Module:
    """Build a network in evaluation mode, in float32, on the CPU.

    Args:
        name: see :func:`spec`.
        weights: load the published ones; otherwise random ones, enough to measure latency.
        generator: where random weights come from; needed when ``weights`` is false.

    Raises:
        BadInput: unknown name; weights that do not fit or are not finite; random weights without a
            generator.
        DataMissing: the weights are not on this machine.
        DataCorrupt: they are not what was published.

    """
    found = spec(name)
    if weights:
        return from_tensors(found, read(found))
    if generator is None:
        raise BadInput(f"{name} with random weights needs a torch.Generator to draw them from")
    return untrained(found, generator).eval()


_FAMILIES: Mapping[str, Callable[..., nn.Module]] = {
    family.__name__: family
    for family in (
        *(CifarResNet, ApotResNet20, GoogLeNet, MobileNetV1, ShapesMobileNet),
        *(MobileNetV2, EfficientNetLite0, DeepLabV3, NanoDetM),
    )
}

_SHOWN = 5  # keys named in an error: enough to recognize the network


def read(spec: ModelSpec) -> dict[str, Tensor]:
    """Read the published weights of a network.

    Raises:
        DataMissing: they are not on this machine.
        DataCorrupt: they are not what was published.

    """
    if spec.family == "released":
        return released.read(spec.name)
    if spec.family != "torchvision":
        return checkpoint(spec.checkpoint)
    from quantbench.models import torchvision

    return torchvision.weights(spec.name.removeprefix("torchvision/"))


def digest(spec: ModelSpec) -> str:
    """What identifies the weights of a network that no table of data holds, once they were checked.

    Raises:
        DataMissing: they are not on this machine.
        DataCorrupt: they are not what was published.

    """
    if spec.family == "released":
        return released.digest(spec.name)
    if spec.checkpoint in packaged.CHECKPOINTS:
        packaged.weights_file(packaged.CHECKPOINTS[spec.checkpoint])  # checks its sha256
    else:
        read(spec)
    return spec.checkpoint  # ends in its digest


def untrained(spec: ModelSpec, generator: torch.Generator) -> nn.Module:
    """Construct a network with random weights, in training mode, as torch makes it.

    Torch draws initial weights from its global generator; that one is seeded from ``generator`` and
    then put back.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _family(spec)(**dict(spec.arguments))


def _family(spec: ModelSpec) -> Callable[..., nn.Module]:
    if spec.family == "released":
        return released.network
    if spec.family != "torchvision":
        return _FAMILIES[spec.family]
    from quantbench.models.torchvision import classifier

    return classifier


@torch.no_grad()
def from_tensors(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build a network around a state dict, in evaluation mode.

    Only ``num_batches_tracked``, which old checkpoints lack and evaluation does not use, may be
    missing.

    Raises:
        BadInput: keys that are missing, unexpected or of the wrong shape, or values that are NaN or
            infinite.

    """
    model = untrained(spec, torch.Generator().manual_seed(0))
    if prepare := getattr(model, "prepare", None):
        tensors = prepare(tensors)
    own = {
        k: t
        for k, t in model.state_dict().items()
        if k in tensors or not k.endswith(".num_batches_tracked")
    }
    where = f"{spec.checkpoint}, for {spec.name}"
    for problem, keys in (
        ("lacks", own.keys() - tensors.keys()),
        ("has the unknown", tensors.keys() - own.keys()),
    ):
        if keys:
            some = ", ".join(sorted(keys)[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
            raise BadInput(
                f"{where}: it {problem} {len(keys)} tensors {some}; "
                "is it a checkpoint of another network?"
            )
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape:
            raise BadInput(
                f"{where}: {key} has shape {tuple(tensor.shape)}, not {tuple(own[key].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{where}: {key} holds NaN or infinite values; get the checkpoint again")
        own[key].copy_(tensor)
    return model.eval()


def block_names(model: nn.Module, spec: ModelSpec) -> tuple[str, ...]:
    """Find the units of block reconstruction: the outermost modules of ``spec.blocks``.

    Returns:
        module names in the order of registration, which is the order of execution in every family
        here.

    """
    names: list[str] = []
    for name, module in model.named_modules():
        if type(module).__name__ in spec.blocks and not _inside(name, names[-1:]):
            names.append(name)
    return tuple(names)


def _inside(name: str, blocks: Sequence[str]) -> bool:
    return any(name.startswith(f"{block}.") for block in blocks)
