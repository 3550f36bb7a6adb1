"""Other people's reconstruction in this process, so that times are compared on one core.

Neither is a dependency. AIMET pins another torch: ``pip install aimet-torch`` and this package into
an environment of its own, and run the bench there. The authors' code of BRECQ is a folder: a clone
of yhhhli/BRECQ, which ``QUANTBENCH_BRECQ`` names.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantbench.models.cifar_resnet import BasicBlock
from quantbench.network.modules import Add
from quantbench.quantization.grids import QParams

BRECQ = "QUANTBENCH_BRECQ"


class Aimet:
    """AdaRound of AIMET, a layer at a time, W3 per channel.

    Attributes:
        rounded: the network of the last run.

    """

    rounded: nn.Module

    def __init__(self, model: nn.Module, x: Tensor, folder: Path) -> None:
        self.model, self.x, self.folder = model, x, folder
        try:
            self.adaround = importlib.import_module("aimet_torch.adaround.adaround_weight")
        except ImportError as e:
            pytest.skip(
                f"AIMET is not in this environment ({e}): pip install aimet-torch, in an "
                "environment of its own"
            )

    def __call__(self, iterations: int) -> float:
        """Seconds of a run."""
        model = copy.deepcopy(self.model).eval()
        custom = importlib.import_module("aimet_torch.nn.modules.custom")
        for name, module in list(model.named_modules()):
            if type(module) is Add:  # it looks for operations by class
                model.set_submodule(name, custom.Add())
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(self.x), batch_size=32)

        def forward(model: nn.Module, batch: Any) -> Any:
            return model(batch[0] if isinstance(batch, (list, tuple)) else batch)

        settings = self.adaround.AdaroundParameters(
            loader, len(loader), default_num_iterations=iterations, forward_fn=forward
        )
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.rounded = self.adaround.Adaround.apply_adaround(
                model, self.x[:2], settings, str(self.folder), "peer", default_param_bw=3
            )
        return time.process_time() - start

    def grids(self) -> dict[str, QParams]:
        """Grids of the last run by layer, as AIMET chose them."""
        found = json.loads((self.folder / "peer.encodings").read_text())["param_encodings"]
        grids = {}
        for key, rows in found.items():
            if not key.endswith(".weight"):
                continue
            name = key.removesuffix(".weight")
            assert all((row["offset"], row["bitwidth"]) == (-4, 3) for row in rows)
            weight = self.model.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            scale = torch.tensor([row["scale"] for row in rows]).view(-1, *[1] * (weight.dim() - 1))
            grids[name] = QParams(scale, torch.zeros_like(scale), tuple(range(-4, 4)))
        return grids


class ReleasedBRECQ:
    """The authors' code on a CIFAR ResNet: W2 per channel, by blocks.

    First and last layer have 8 bits, and the loss is plain MSE.
    """

    def __init__(self, model: nn.Module, x: Tensor, folder: Path) -> None:
        self.x = x
        where = os.environ.get(BRECQ)
        if where is None:
            pytest.skip(
                f"{BRECQ} names no clone of yhhhli/BRECQ: git clone it from GitHub and set {BRECQ} "
                "to the folder"
            )
        shutil.copytree(where, folder / "released")
        for file in (folder / "released" / "quant").glob("*.py"):  # it moves every batch to a GPU
            file.write_text(file.read_text().replace("'cuda'", f"'{x.device.type}'"))
        sys.path.insert(0, str(folder / "released"))
        try:
            names = ("quant_model", "quant_block", "quant_layer", "block_recon", "layer_recon")
            self.code: dict[str, Any] = {
                name: importlib.import_module(f"quant.{name}") for name in names
            }
        finally:
            sys.path.pop(0)
        self.code["quant_block"].specials[BasicBlock] = self._block()
        self.model = self._prepared(model)

    def _block(self) -> Any:
        """A CIFAR block in the terms of that code, written as its own blocks are."""
        layer, base = self.code["quant_layer"].QuantModule, self.code["quant_block"].BaseQuantBlock

        class Block(base):  # type: ignore[misc, valid-type]
            def __init__(
                self, block: BasicBlock, weights: dict[str, Any], acts: dict[str, Any]
            ) -> None:
                super().__init__(acts)
                self.conv1 = layer(block.conv1, weights, acts)
                self.conv2 = layer(block.conv2, weights, acts, disable_act_quant=True)
                self.conv1.activation_function, self.activation_function = block.relu1, block.relu2
                self.shortcut = block.shortcut

            def forward(self, x: Tensor) -> Tensor:
                out = self.conv2(self.conv1(x))
                out += self.shortcut(x)
                activated: Tensor = self.activation_function(out)
                return activated

        return Block

    def _prepared(self, model: nn.Module) -> nn.Module:
        """The network with its layers wrapped and the ranges of its weights found."""
        common = {"scale_method": "mse"}
        q = self.code["quant_model"].QuantModel(
            copy.deepcopy(model).eval(),
            {"n_bits": 2, "channel_wise": True, **common},
            {"n_bits": 8, "channel_wise": False, "leaf_param": False, **common},
        )
        q.set_first_last_layer_to_8bit()
        q.set_quant_state(True, False)
        with torch.no_grad():
            q(self.x[:64])
        prepared: nn.Module = q
        return prepared

    def __call__(self, iterations: int) -> float:
        """Seconds of a run."""
        q = copy.deepcopy(self.model)
        settings = {"iters": iterations, "b_range": (20, 2), "warmup": 0.2}
        settings |= {"weight": 0.01, "asym": True}
        start = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            self._reconstruct(q, q, {"cali_data": self.x, "opt_mode": "mse", **settings})
        return time.process_time() - start

    def _reconstruct(self, q: nn.Module, module: nn.Module, settings: dict[str, Any]) -> None:
        """As its main script goes through the network."""
        for child in module.children():
            kinds = self.code["quant_layer"].QuantModule, self.code["quant_block"].BaseQuantBlock
            if not isinstance(child, kinds):
                self._reconstruct(q, child, settings)
            elif not child.ignore_reconstruction:
                kind = "layer" if isinstance(child, kinds[0]) else "block"
                run = getattr(self.code[f"{kind}_recon"], f"{kind}_reconstruction")
                run(q, child, **settings)
