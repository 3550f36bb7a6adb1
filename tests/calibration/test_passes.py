"""Captures that start where the network is final: the same tensors, in memory or in files."""

import errno
import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quantbench.calibration.memory import LIMIT, Activations, Memory
from quantbench.calibration.walk import Progressive
from quantbench.errors import BadInput, CannotWrite
from quantbench.network.hooks import capture_input, capture_output
from quantbench.network.modules import Add
from quantbench.network.tracing import LayerInfo
from quantbench.quantization.layers import QuantLayer


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.b = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return F.relu(self.b(self.relu(self.a(x))) + x)


class Net(nn.Module):
    """A stem, two residual blocks, a long skip around the second if asked for, a head."""

    def __init__(self, *, skip=False):
        super().__init__()
        self.skip = skip
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two, self.fc = Block(), Block(), nn.Linear(4, 5)

    def forward(self, x):
        x = self.one(self.stem(x))
        y = self.two(x)
        return self.fc((y + x if self.skip else y).mean((2, 3)))


def make(**kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(**kwargs).eval(), torch.randn(100, 3, 6, 6)


@pytest.mark.parametrize("limit", [1.0, 1e-6])
@pytest.mark.parametrize("skip", [False, True])
def test_later_starts_see_what_full_passes_see(skip, limit, tmp_path):
    model, x = make(skip=skip)
    passes = Progressive(model, (x,), Memory(limit, tmp_path))
    for name in ("stem", "one.a", "one.b", "two.a", "two.b", "fc"):
        passes.advance(name)
        (seen,) = passes.inputs_of(name)
        everything = slice(0, 100)
        assert torch.allclose(seen.take(everything), capture_input(model, name, (x,))[0], atol=1e-6)
        assert torch.allclose(
            passes.output_of(name).take(everything), capture_output(model, name, (x,)), atol=1e-6
        )
    assert bool(list(tmp_path.glob("*.bin"))) == (limit < 1)
    del passes, seen
    assert not list(tmp_path.glob("*.bin"))


def test_passes_start_at_the_last_module_that_decides_everything():
    model, x = make()
    passes = Progressive(model, (x,), Memory())
    found = [
        (passes.advance(n), sorted(passes.runs("fc") - {"", "fc"}))
        for n in ("one.a", "one.b", "two.a", "two.b")
    ]
    # inside a block its input is still needed
    assert [moved for moved, _ in found] == [True, False, True, False]
    assert found[0][1] == ["one", "one.a", "one.b", "one.relu", "two", "two.a", "two.b", "two.relu"]
    assert found[2][1] == ["two", "two.a", "two.b", "two.relu"]
    model, x = make(skip=True)
    passes = Progressive(model, (x,), Memory())
    # the skip needs block one
    assert [passes.advance(n) for n in ("one.a", "two.a", "fc")] == [True, True, False]


class Gated(nn.Module):
    """What lies behind decides again at the end, by a comparison, which makes a number of NaN."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.gate = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))

    def forward(self, x):
        return (self.b(self.a(self.stem(x))) * (self.gate(x) > 0)).mean((2, 3))


def test_a_comparison_that_hides_nan_is_seen():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Gated().eval(), torch.randn(6, 3, 5, 5)
    passes = Progressive(model, (x,), Memory())
    for name in ("a", "b", "gate"):
        passes.advance(name)
        torch.testing.assert_close(passes.forward(slice(0, 6)), model(x))


class Masked(nn.Module):
    """Rows that a second input marks are left out; NaN is no mark."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, mask):
        return self.c(self.b(self.a(self.stem(x))).masked_fill((mask == 0).unsqueeze(2), 0.0)).mean(
            1
        )


def test_a_mask_that_the_first_examples_do_not_need_is_given():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x, mask = Masked().eval(), torch.randn(6, 3, 4), torch.ones(6, 3)
    mask[2:, 1:] = 0
    passes = Progressive(model, (x, mask), Memory())
    for name in ("a", "b", "c"):
        passes.advance(name)
        torch.testing.assert_close(passes.forward(slice(0, 6)), model(x, mask))


class Windows(nn.Module):
    """A layer that works on parts of examples, and one on a table that all share."""

    def __init__(self):
        super().__init__()
        self.part, self.table, self.fc = nn.Linear(4, 4), nn.Linear(2, 4), nn.Linear(4, 4)

    def forward(self, x):
        bias = self.table(x.new_ones(1, 2))
        return self.fc(self.part(x.reshape(-1, 4)).view(len(x), -1, 4).mean(1) + bias)


@pytest.mark.parametrize("name", ["part", "table"])
def test_a_layer_without_a_row_for_each_example_is_named(name):
    passes = Progressive(Windows().eval(), (torch.randn(70, 8),), Memory())
    with pytest.raises(BadInput, match=rf"'{name}' works on .* not on one row for each"):
        passes.inputs_of(name)
    with pytest.raises(BadInput, match=f"'{name}' works on"):
        passes.output_of(name)


def test_a_full_disk_is_noticed_before_activations_are_written(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CannotWrite, match=r"GiB of activations .* No space left"):
        Memory(1e-9, tmp_path).room(5, torch.zeros(1, 10))
    assert not list(tmp_path.iterdir())


def test_changes_ahead_are_seen_and_gradients_flow():
    model, x = make()
    passes = Progressive(model, (x,), Memory())
    passes.advance("two.a")
    with torch.no_grad():
        model.two.a.weight.mul_(2)
        model.one.a.weight.mul_(100)  # final: must not be run again
        want = make()[0]
        want.two.a.weight.mul_(2)
        assert torch.allclose(passes.forward(slice(3, 9)), want(x[3:9]), atol=1e-6)
    model.two.a.weight.grad = None
    passes.forward(torch.tensor([5, 1]), "two").sum().backward()
    assert model.two.a.weight.grad.abs().sum() > 0
    assert model.one.a.weight.grad is None
    leaf, out = passes.split(slice(0, 4), "two.a")
    out.sum().backward()
    assert leaf.grad.shape == (4, 4, 6, 6)


def test_a_module_that_never_runs_is_named():
    model, x = make()
    model.unused = nn.Linear(2, 2)
    with pytest.raises(BadInput, match="'unused' never ran"):
        Progressive(model, (x,), Memory()).inputs_of("unused")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(7, 3), (7, 2, 3, 4)])
def test_activations_in_a_file_are_those_in_memory(tmp_path, dtype, shape):
    x = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    file = Activations(7, x, file=tmp_path / "a.bin")
    memory = Activations(7, x)
    for a in (file, memory):
        a.append(x[:4])
        a.append(x[4:])
        assert torch.equal(a.take(torch.tensor([6, 0, 3])), x[[6, 0, 3]])
        assert torch.equal(a.take(slice(2, 5)), x[2:5])
        a.take(slice(0, 7)).zero_()  # a copy
        assert torch.equal(a.take(slice(0, 7)), x)
    assert (file.bytes, memory.bytes) == (0, x.numel() * x.element_size())
    assert memory.rms() == pytest.approx(float(x.double().square().mean()) ** 0.5)
    if x.dim() == 4:
        assert memory.take(slice(0, 7)).is_contiguous(memory_format=torch.channels_last)


def test_memory_limits(monkeypatch):
    monkeypatch.setenv(LIMIT, "lots")
    with pytest.raises(BadInput, match="QUANTBENCH_MEMORY_GIB='lots'"):
        Memory()
    with pytest.raises(BadInput, match="positive"):
        Memory(0)
    monkeypatch.setenv(LIMIT, "0.000001")
    memory = Memory()
    small, big = torch.zeros(1, 10), torch.zeros(1, 1000)
    kept = memory.room(5, small)
    spilled = memory.room(5, big)
    assert (kept.bytes, spilled.bytes, memory.used) == (200, 0, 200)
    del kept
    assert memory.used == 0


class Scaled(Net):
    """The head divides by the mean of the network's input."""

    def forward(self, x):
        return super().forward(x) / (2 + x.mean((1, 2, 3)).unsqueeze(1))


@pytest.mark.parametrize("kind", [Net, Scaled])
def test_the_input_is_given_where_something_ahead_needs_it(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = kind().eval(), torch.randn(100, 3, 6, 6)
    want, passes, seen = model(x), Progressive(model, (x,), Memory()), []
    model.register_forward_pre_hook(lambda _, args: seen.append(bool(args[0].isnan().all())))
    assert passes.advance("two.a")
    seen.clear()
    for index in (slice(3, 9), torch.tensor([4, 90, 2])):
        torch.testing.assert_close(passes.forward(index), want[index])
    assert seen == [kind is Net] * 2


class Wired(nn.Module):
    """Two layers behind a stem, connected in several ways."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.stem, self.add = kind, nn.Conv2d(3, 16, 3, padding=1), Add()
        self.relu, self.relu6, self.gelu = nn.ReLU(), nn.ReLU6(), nn.GELU()
        for name in ("a", "b"):
            layer = nn.Conv2d(16, 16, 3, padding=1)
            setattr(
                self,
                name,
                QuantLayer(layer, LayerInfo(name, "conv", tuple(layer.weight.shape), 0), None),
            )

    def forward(self, x):
        x = self.stem(x)
        y = self.a(self.relu(x) if self.kind == "activation first" else x)
        if self.kind == "read twice":
            return self.add(self.relu6(y), self.b(y))
        if self.kind == "function between":
            return self.add(self.b(y * 0.5), x)
        y = self.b({"no overwriting": self.gelu, "relu6": self.relu6}.get(self.kind, self.relu)(y))
        return self.add(x, y) if self.kind == "sum on the right" else self.relu(self.add(y, x))


KINDS = (
    "block",
    "activation first",
    "read twice",
    "function between",
    "no overwriting",
    "relu6",
    "sum on the right",
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_repeated_passes_give_what_the_network_gives(kind, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = Wired(kind).eval(), torch.randn(20, 3, 6, 9)
    passes, layers = Progressive(model, (x,), Memory()), (model.a, model.b)
    assert passes.advance("a")
    output = passes.repeated("add")
    given = torch.randn(3, 6, 9, 16, generator=torch.Generator()).permute(0, 3, 1, 2)
    index = torch.tensor([4, 19, 2])
    for layer in layers:  # after the pass was recorded, as in a reconstruction
        layer.weight = layer.weight.mul(1.5).requires_grad_()
    for start in (None, given):
        found = []
        for forward in (output, lambda i, kept: passes.forward(i, "add", kept)):
            kept = None if start is None else start.clone()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                out = forward(index, kept)
            found.append(
                (
                    out,
                    *torch.autograd.grad(
                        out.float().square().sum(), [layer.weight for layer in layers]
                    ),
                )
            )
            assert start is None or torch.equal(kept, start)
        for got, want in zip(*found, strict=True):
            assert got.dtype == want.dtype
            torch.testing.assert_close(got, want, rtol=0, atol=0)
    ran = []
    model.register_forward_pre_hook(lambda *_: ran.append(kind))
    with torch.no_grad():
        torch.testing.assert_close(output(index, None), _by_hand(model, passes.kept(index)))
    assert ran == [kind] * (kind == "function between")  # otherwise module by module


def _by_hand(model, x):
    """What ``Wired`` gives at its sum, from the stem's output."""
    a, b = (lambda y, m=m: F.conv2d(y, m.weight, m.bias, padding=1) for m in (model.a, model.b))
    if model.kind == "read twice":
        return a(x).clamp(0, 6) + b(a(x))
    if model.kind == "function between":
        return b(a(x) * 0.5) + x
    y = a(x.clamp(min=0) if model.kind == "activation first" else x)
    return b({"no overwriting": F.gelu, "relu6": F.relu6}.get(model.kind, F.relu)(y)) + x
