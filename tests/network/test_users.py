"""More of what users bring: masks, counters, in-place sums, choices that no graph shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantbench.errors import BadInput, Unsupported
from quantbench.integer import oracle, store
from quantbench.integer.backends.base import backend
from quantbench.integer.backends.onnx.file import save_onnx
from quantbench.integer.ir import Island
from quantbench.integer.lowering.lower import executable, lower
from quantbench.methods.adaround import AdaRound
from quantbench.methods.brecq import BRECQ
from quantbench.methods.nearest import Nearest
from quantbench.network.checks.same import require_same
from quantbench.network.network import Network
from quantbench.quantization.method import quantize
from quantbench.quantization.serialize import load, save
from tests.network.test_any_network import INTEGER, RIGHT, WEIGHTS, cnn, images, made, off
from tests.network.whole_way import whole_way


def vectors(n: int = 16, width: int = 12) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(3))


class Does(nn.Module):
    """A function of what is given, beside some modules and tensors."""

    def __init__(self, function: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in held.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *given: Any) -> Any:
        return self.function(self, *given)


def between(function: Callable[..., Any], **held: Any) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 8), Does(function, **held), nn.Linear(8, 5)).eval()


def test_a_mask_of_infinities_is_no_broken_checkpoint(tmp_path: Path) -> None:
    def attend(own: Any, x: Tensor) -> Tensor:
        q, k, v = own.q(x).chunk(3, -1)
        return own.o((((q @ k.mT) / 4 + own.mask).softmax(-1) @ v).mean(1))

    mask = torch.full((6, 6), -math.inf).triu(1)
    x = vectors(16, 96).reshape(16, 6, 16)
    model = Does(attend, q=nn.Linear(16, 48), o=nn.Linear(16, 5), mask=mask).eval()
    q = made(model, INTEGER, x)
    assert off(executable(q)(x), model(x)) < RIGHT
    whole_way(q, Network.of(model, x[:2]), x, folder=tmp_path)
    norm = nn.BatchNorm2d(8)
    norm.running_var.fill_(math.inf)
    with pytest.raises(BadInput, match=r"8 of 8 values of '1\.running_var' are NaN or infinite"):
        Network.of(cnn(nn.Conv2d(3, 8, 3), norm), images(2))


def test_classes_that_are_masked_are_compared_by_the_others() -> None:
    def masked(_: Any, x: Tensor) -> Tensor:
        return x.masked_fill(torch.arange(5) == 0, -math.inf)

    model = nn.Sequential(nn.Linear(12, 5), Does(masked)).eval()
    q = made(model, INTEGER, vectors())
    found = executable(q)(vectors())
    assert torch.equal(found[:, 0], torch.full((16,), -math.inf))
    assert off(found[:, 1:], model(vectors())[:, 1:]) < RIGHT
    other = nn.Sequential(nn.Linear(12, 5), Does(masked)).eval()
    with pytest.raises(BadInput, match="changed the network's output"):
        require_same(other, model, (vectors(2),), "putting another in")


def test_what_gives_nan_is_named() -> None:
    norm = nn.BatchNorm2d(8)
    norm.running_var.fill_(-1.0)
    with pytest.raises(BadInput, match=r"NaN for its sample.* is 1 \(BatchNorm2d\)"):
        Network.of(cnn(nn.Conv2d(3, 8, 3), norm), images(2))


def test_a_count_of_calls_is_no_part_of_a_network(tmp_path: Path) -> None:
    def counted(own: Any, x: Tensor) -> Tensor:
        own.calls += 1
        return own.conv(x)

    model = cnn(Does(counted, conv=nn.Conv2d(3, 8, 3), calls=torch.zeros(1)))
    q = made(model)
    save(q, tmp_path)
    model(images())
    assert load(tmp_path, Network.of(model, images(2)), WEIGHTS).digest == q.digest


def test_a_state_that_changes_the_output_is_named() -> None:
    def follows(own: Any, x: Tensor) -> Tensor:
        own.mean.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
        return own.conv(x - own.mean[:, None, None])

    model = cnn(Does(follows, conv=nn.Conv2d(3, 8, 3), mean=torch.zeros(3)))
    with pytest.raises(BadInput, match=r"each pass changes 0\.mean"):
        Network.of(model, images(2))


CHOICES: dict[str, Callable[[Tensor], bool]] = {
    "a number in a tensor": lambda x: 0.9999 in x,
    "an array": lambda x: bool(np.asarray(x).mean() > 0.45),
    "is_nonzero": lambda x: torch.is_nonzero((x.mean() > 0.45).float()),
}


@pytest.mark.parametrize("what", CHOICES)
def test_whatever_looks_at_values_is_a_choice(what: str, tmp_path: Path) -> None:
    choice = CHOICES[what]

    def chosen(own: Any, x: Tensor) -> Tensor:
        y = own.conv(x)
        return 2 * y if choice(x) else y

    torch.manual_seed(0)
    model, dark = cnn(Does(chosen, conv=nn.Conv2d(3, 8, 3))), images() * 0.3
    q = made(model, INTEGER)
    program = lower(q)
    (island,) = (op for op in program.ops if isinstance(op, Island))
    assert "depends on the values" in island.reason
    for x in (images(), dark):
        assert off(executable(q)(x), model(x)) < RIGHT
    with pytest.raises(Unsupported, match="a choice that torch's exporter does not see"):
        save_onnx(program, tmp_path / "chosen.onnx")


def test_weights_that_are_read_twice_are_not_folded_into() -> None:
    def decode(own: Any, x: Tensor) -> Tensor:
        return F.linear(torch.relu(own.norm(own.enc(x))), own.enc.weight.t())

    torch.manual_seed(0)
    model = Does(decode, enc=nn.Linear(12, 8), norm=nn.BatchNorm1d(8)).eval()
    model.norm.running_var.uniform_(0.2, 3)
    with pytest.warns(UserWarning, match="multiplied outside all layers.*: that of linear$"):
        q = made(model, INTEGER, vectors())
    assert not q.net.batch_norm
    assert off(q.fake()(vectors()), model(vectors())) < RIGHT
    assert off(executable(q)(vectors()), model(vectors())) < RIGHT


def test_a_tied_table_that_stays_does_not_hinder_its_head() -> None:
    def says(own: Any, rows: Tensor) -> Tensor:
        return own.head(torch.relu(own.fc(own.table(rows))).mean(1))

    torch.manual_seed(0)
    held = {"table": nn.Embedding(9, 12), "fc": nn.Linear(12, 12), "head": nn.Linear(12, 9)}
    held["head"].weight = held["table"].weight
    model, rows = Does(says, **held).eval(), torch.randint(0, 9, (16, 4))
    q = made(model, WEIGHTS, rows)
    assert [i.name for i in q.net.layers] == ["fc", "head"]
    assert off(q.fake()(rows), model(rows)) < RIGHT
    both = Network.of(model, rows[:2], kinds=(nn.Linear, nn.Embedding))
    with pytest.raises(Unsupported, match="shares its weights"):
        quantize(Nearest(), both, rows, WEIGHTS)


class Wrapped(nn.Module):
    """A low-rank update around a layer whose weight it shows, as adapters of large models do."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.a = base, nn.Parameter(torch.randn(base.in_features, 2))
        self.b = nn.Parameter(torch.randn(2, base.out_features))

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a @ self.b


def test_a_module_that_shows_a_layers_weight_does_not_share_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Wrapped(nn.Linear(12, 8)), nn.ReLU(), nn.Linear(8, 5)).eval()
    with pytest.warns(UserWarning, match=r"outside all layers.*: 0\.a, 0\.b"):
        q = made(model, INTEGER, vectors())
    assert [i.name for i in q.net.layers] == ["0.base", "2"]
    assert off(executable(q)(vectors()), model(vectors())) < RIGHT


class OnlyArguments(nn.Conv2d):
    """Sets arguments, and nothing else."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)


def test_a_subclass_that_only_sets_arguments_is_a_layer() -> None:
    torch.manual_seed(0)
    model = cnn(OnlyArguments(3, 8), nn.BatchNorm2d(8), nn.ReLU(), OnlyArguments(8, 8))
    q = made(model, INTEGER)
    assert [i.name for i in q.net.layers] == ["0", "3", "6"]
    assert set(q.net.batch_norm) == {"0"}
    assert off(executable(q)(images()), model(images())) < RIGHT


def test_learning_leaves_a_patched_forward_where_it_is() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    model = cnn(inner)
    inner.forward = lambda x: inner[0](x) * 3  # type: ignore[method-assign]
    expected = model(images()).detach()
    left = pytest.warns(UserWarning, match=r"outside all layers.*: that of 0\.conv2d")
    with left, pytest.warns(UserWarning, match="did not run on the sample"):
        net = Network.of(model, images(2))
    quantize(AdaRound(iterations=3), net, images(), WEIGHTS)
    assert torch.equal(net.model(images()), expected)


def test_a_head_that_is_not_looked_at_can_be_reconstructed() -> None:
    def heads(own: Any, x: Tensor) -> dict[str, Tensor]:
        return {"a": own.one(x), "b": own.two(x)}

    torch.manual_seed(0)
    model = Does(heads, one=nn.Linear(12, 5), two=nn.Linear(12, 3)).eval()
    net = Network.of(model, vectors(2), output="b")
    with pytest.warns(UserWarning, match="no known blocks"):
        q = quantize(BRECQ(iterations=3), net, vectors(), WEIGHTS)
    assert off(q.fake()(vectors()), model(vectors())["b"]) < RIGHT


def _adds_to_input(own: Any, x: Tensor) -> Tensor:
    x += own.fc(F.relu(x))
    return x


def _writes_dictionary(own: Any, x: Tensor) -> Tensor:
    given = {"x": x}
    return own.inner(given)["y"]


def _writes(own: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    given["y"] = own.fc(given["x"])
    return given


SEEN: dict[str, Callable[[], nn.Module]] = {
    "x ** 3": lambda: between(lambda _, x: x**3),
    "x **= 2": lambda: between(lambda _, x: (x * 1).__ipow__(2)),
    "a sum into its input": lambda: between(_adds_to_input, fc=nn.Linear(8, 8)),
    "a dictionary that a module adds to": lambda: between(
        _writes_dictionary, inner=Does(_writes, fc=nn.Linear(8, 8))
    ),
    "a view of what lies otherwise in memory": lambda: between(
        lambda _, x: x[:, :, None].expand(-1, -1, 2).permute(0, 2, 1).contiguous().view(-1, 8)[::2]
    ),
}


@pytest.mark.parametrize("what", SEEN)
def test_spellings_that_a_recording_has_to_follow(what: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SEEN[what]()
    q = made(model, INTEGER, vectors())
    for run in (q.fake(), executable(q)):
        assert off(run(vectors()), model(vectors())) < RIGHT
        torch.testing.assert_close(run(vectors()[:1]), run(vectors())[:1])
    whole_way(q, Network.of(model, vectors(2)), vectors(), folder=tmp_path)


def test_a_sum_into_the_input_is_quantized_once_behind_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), Does(_adds_to_input, fc=nn.Linear(8, 8)), nn.ReLU())
    q = made(model.eval(), INTEGER, vectors())
    assert lower(q).ops[-1].inputs  # the sum's quantizer is on the way, or this is refused
    assert off(executable(q)(vectors()), model(vectors())) < RIGHT


def test_a_pool_that_gives_where_its_maxima_were_is_an_island() -> None:
    pool = Does(lambda own, x: own.pool(x)[0], pool=nn.MaxPool2d(2, return_indices=True))
    model = cnn(nn.Conv2d(3, 8, 3), pool, nn.LPPool2d(2, 1), nn.ReLU())
    q = made(model, INTEGER)
    assert off(executable(q)(images()), model(images())) < RIGHT


def test_queries_that_follow_the_number_of_examples_alone() -> None:
    """A decoder attends to learnt queries: constants, but for how many there are."""

    def detects(own: Any, x: Tensor) -> Tensor:
        queries = own.queries.expand(len(x), -1, -1)
        return own.fc(own.attention(own.attention(queries, queries, queries)[0], x, x)[0].mean(1))

    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    queries = nn.Parameter(torch.randn(1, 3, 16))
    x = vectors(16, 96).reshape(16, 6, 16)
    model = Does(detects, attention=attention, queries=queries, fc=nn.Linear(16, 5)).eval()
    net = Network.of(model, x[:2], unshared=True)
    q = quantize(Nearest(), net, x, INTEGER)
    for n in (1, 7):
        assert off(executable(q)(x[:n]), model(x[:n])) < 2 * RIGHT


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (images(0), r"has no examples.*\(0, 3, 8, 8\)"),
        (images(1)[0], r"does not run on its sample"),
    ],
)
def test_samples_that_are_none(sample: Tensor, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        Network.of(cnn(nn.Conv2d(3, 8, 3)), sample)


def test_weights_without_values_are_refused() -> None:
    with pytest.raises(BadInput, match="meta device"):
        Network.of(cnn(nn.Conv2d(3, 8, 3)).to("meta"), images(2))


def test_what_is_wrapped_inside_a_network_is_named() -> None:
    inner = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
    with pytest.raises(BadInput, match=r"0 is wrapped in DataParallel: give model\.0\.module"):
        Network.of(cnn(inner), images(2))


def test_a_module_compiled_in_place_is_taken_as_it_was() -> None:
    model = cnn(nn.Conv2d(3, 8, 3), nn.ReLU())
    expected = model(images()).detach()
    model.compile(backend="eager")
    assert off(executable(made(model, INTEGER))(images()), expected) < RIGHT


def test_examples_that_depend_on_their_neighbours_are_told() -> None:
    model = cnn(nn.Conv2d(3, 8, 3), Does(lambda _, x: x - x.mean()))
    with pytest.warns(UserWarning, match="depends on the others beside it"):
        Network.of(model, images(2))


def test_whole_numbers_for_an_integer_program_are_told_by_their_type() -> None:
    model = Does(
        lambda own, x: own.fc(own.conv(x.float() / 255).mean((2, 3))),
        conv=nn.Conv2d(3, 8, 3),
        fc=nn.Linear(8, 5),
    ).eval()
    x = (images() * 255).to(torch.uint8)
    assert off(made(model, WEIGHTS, x).fake()(x), model(x)) < RIGHT
    with pytest.raises(Unsupported, match=r"or other torch\.uint8: convert images before"):
        made(model, INTEGER, x)


def test_no_examples_give_no_outputs() -> None:
    """A loader's last batch, after a filter."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).eval()
    program = lower(made(model, INTEGER))
    none = np.zeros((0, 3, 8, 8), np.float32)
    for name in ("simulation", "native", "onednn"):
        if backend(name).available() is None:
            assert backend(name).compile(program)(none).shape == (0, 5)
    assert oracle.run(program, none)[program.output].shape[:2] == (0, 5)


def test_a_number_for_each_example_is_an_output() -> None:
    model = Does(lambda own, x: own.fc(x).squeeze(-1), fc=nn.Linear(12, 1)).eval()
    q = made(model, INTEGER, vectors())
    program = lower(q)
    assert not [op for op in program.ops if isinstance(op, Island)]
    found = executable(q)(vectors())
    assert found.shape == (16,)
    assert off(found, model(vectors())) < RIGHT


def test_values_without_an_end_are_named_by_their_quantizer() -> None:
    model = between(lambda _, x: torch.where(x > 0, x, -math.inf).exp())
    with pytest.raises(BadInput, match=r"activations of '1.*act': .* NaN or infinite"):
        made(model, INTEGER, vectors())


class MaskedBias(nn.Module):
    """Zeros in a copy of a bias, as attention without a bias of its keys is written."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.fc.bias.clone()
        bias[2:5].zero_()
        y = self.fc(x) + bias
        bias[0] += 1
        return self.out(torch.relu(y + bias))


def test_a_constant_that_is_changed_in_place_is_what_it_was_when_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MaskedBias().eval()
    q = made(model, INTEGER, vectors())
    for n in (1, 16):
        assert off(executable(q)(vectors(n)), model(vectors(n))) < 2 * RIGHT
    whole_way(q, Network.of(model, vectors(2)), vectors(), folder=tmp_path)


def test_a_network_that_gives_classes_is_exported_as_it_is(tmp_path: Path) -> None:
    maps = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    model = nn.Sequential(*maps, Does(lambda _, x: x.argmax(1))).eval()
    q = made(model, INTEGER)
    found = executable(q)(images())
    assert found.shape == (16, 6, 6)
    assert (found == model(images())).float().mean() > 0.95
    whole_way(q, Network.of(model, images(2)), images(), folder=tmp_path)


def test_a_program_with_a_part_in_floats_says_how_to_keep_it(tmp_path: Path) -> None:
    q = made(cnn(nn.Conv2d(3, 8, 3), nn.Softmax(1), nn.Conv2d(8, 8, 1)), INTEGER)
    with pytest.raises(Unsupported, match=r"save the quantized network \(qb\.save\)"):
        store.save(lower(q), tmp_path / "program.safetensors")
