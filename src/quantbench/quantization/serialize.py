"""Quantized networks on disk: safetensors and JSON, checked before anything is believed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from quantbench import __version__
from quantbench.errors import BadInput
from quantbench.network.modules import ChannelClamp
from quantbench.network.network import Network
from quantbench.network.rewrite import Rewrite
from quantbench.quantization.grids import QParams
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.quantized import Quantized
from quantbench.quantization.saved_by import FORMAT, another, differences, require_readable
from quantbench.quantization.scheme import Scheme
from quantbench.system.atomic import write_atomically
from quantbench.system.tensors import tensor_digest

# whatever a file that anyone may have written can bring about; RuntimeError: torch's, and nesting
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError, OSError)

LARGEST_CODE = (1 << 31) - 1  # as they are stored

FLOATS = "float:"  # before the names of what stays in full precision


def save(q: Quantized, folder: Path | str) -> None:
    """Write ``quantized.safetensors`` and ``quantized.json``.

    The JSON comes last and marks the pair as whole.

    Raises:
        BadInput: layers without codes, a file in the folder's place.

    """
    from safetensors.torch import save as as_bytes

    q.require_complete()
    folder, floats = Path(folder), _floats(q)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: give a folder to save in")
    tensors, meta = folder / "quantized.safetensors", folder / "quantized.json"
    meta.unlink(missing_ok=True)
    stored = {k: v.contiguous().cpu().clone() for k, v in (q.tensors() | floats).items()}
    write_atomically(tensors, as_bytes(stored))
    levels = {layer.info.name: list(layer.qparams.levels) for layer in q.layers() if layer.qparams}
    # none: full precision
    acts = {name: list(a.levels) if a.enabled else [] for name, a in q.act_quants().items()}
    about = {
        "format": FORMAT,
        "version": __version__,
        "network": q.net.name,
        "network_digest": q.net.origin_digest,
        "digest": q.digest,
        "floats_digest": tensor_digest(floats),
        "scheme": asdict(q.scheme),
        "levels": levels,
        "acts": acts,
    }
    write_atomically(meta, json.dumps(about, indent=1))


def load(folder: Path | str, net: Network, scheme: Scheme) -> Quantized:
    """Read what ``save`` wrote.

    Raises:
        BadInput: files that are damaged, that belong to another network or scheme, or that were
            written by a version which keeps other things; names both versions.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    meta: Any = None
    folder = Path(folder)
    try:
        meta = json.loads((folder / "quantized.json").read_text(encoding="utf-8"))
        require_readable(meta, folder)
        _require_same_origin(meta, net, scheme, folder)
        tensors = load_file(folder / "quantized.safetensors", device=str(net.device))
        q = Quantized(_clamped(net, tensors), scheme)
        _fill(q, tensors, meta)
        _fill_floats(q, tensors)
        whole = q.digest == meta["digest"]
        floats = meta.get("floats_digest")  # which came later than the rest
        whole &= floats is None or floats == tensor_digest(_floats(q))
    except (*DAMAGE, SafetensorError) as e:
        raise BadInput(
            f"{folder}: not a saved quantized network for {net.name} under {scheme}: {e}"
            f"{another(meta)}"
        ) from e
    if not whole:
        raise BadInput(
            f"{folder}: contents do not match their digest; the files were damaged or changed"
        )
    return q


def _floats(q: Quantized) -> dict[str, Tensor]:
    """Weights and buffers outside layers: what a pipeline rewrote but did not quantize is here."""
    own = [name for name, m in q.model.named_modules() if isinstance(m, QuantLayer | ActQuant)]
    return {
        FLOATS + key: value
        for key, value in q.model.state_dict().items()
        if not any(key.startswith(f"{name}.") for name in own)
    }


def _fill_floats(q: Quantized, tensors: dict[str, Tensor]) -> None:
    """Put them back."""
    here = q.model.state_dict()
    found = {k.removeprefix(FLOATS): v for k, v in tensors.items() if k.startswith(FLOATS)}
    for name, value in found.items():
        if name not in here or here[name].shape != value.shape:
            raise ValueError(f"{name} has another shape than in this network, or is not in it")
        here[name].copy_(value)


def _require_same_origin(meta: dict[str, Any], net: Network, scheme: Scheme, folder: Path) -> None:
    """Refuse a scheme or a network that the files were not made for, naming both.

    Raises:
        BadInput: it is another, or the files do not say.

    """
    pairs = differences(meta["scheme"], scheme)
    if pairs:
        raise BadInput(
            f"{folder}: was saved under another scheme than {scheme}: {'; '.join(pairs)}"
            f"{another(meta)}"
        )
    if meta["network_digest"] != net.origin_digest:
        raise BadInput(
            f"{folder}: was saved for a network {meta['network']!r} with weights of digest "
            f"{str(meta['network_digest'])[:12]}; {net.name!r} has {net.origin_digest[:12]}"
        )


def _clamped(net: Network, tensors: dict[str, Tensor]) -> Network:
    """The network with the clamps that equalization put in place of ReLU6."""
    rewrite = Rewrite(net)
    highs = (n for n in tensors if n.endswith(".high") and not n.startswith(FLOATS))
    found = [name.removesuffix(".high") for name in highs]
    for name in found:
        rewrite.put(name, ChannelClamp(tensors[f"{name}.low"], tensors[f"{name}.high"]))
    return rewrite.network() if found else net


def _fill(q: Quantized, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Put stored codes and ranges into a fresh quantized network."""

    def grid(name: str, levels: list[int]) -> QParams:
        scale, zero = tensors[f"{name}.scale"], tensors[f"{name}.zero"]
        if not levels or not bool((scale > 0).all()) or not bool(scale.isfinite().all()):
            raise ValueError(f"{name} has no levels, or a scale that is not positive")
        whole = tuple(int(v) for v in levels)
        if list(whole) != sorted(set(whole)) or max(map(abs, whole)) > LARGEST_CODE:
            raise ValueError(f"the levels of {name} do not ascend, or are too large")
        return QParams(scale, zero, whole)

    for layer in q.layers():
        name = layer.info.name
        codes, qp = tensors[f"{name}.codes"].float(), grid(name, meta["levels"][name])
        if codes.shape != layer.original.shape or tensors[f"{name}.bias"].shape != layer.bias.shape:
            raise ValueError(f"{name} has another shape than in this network")
        if codes.min() < qp.levels[0] or codes.max() > qp.levels[-1]:
            raise ValueError(f"{name} has codes outside its levels")
        layer.set_codes(codes, qp)
        layer.bias.data = tensors[f"{name}.bias"]
    for name, act in q.act_quants().items():
        if meta["acts"][name]:
            act.set(grid(name, meta["acts"][name]))
