from __future__ import annotations

import ast
import time
from importlib.resources import files
from itertools import product

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from quantbench.errors import BadInput
from quantbench.search.bit_allocation import Choice, front, max_gain, min_loss
from quantbench.search.knapsack import undecided


def problem(rng, layers, options=4):
    """Random choices; whole costs, as numbers of bits are."""
    return {
        f"layer{i}": [
            Choice(w, 8, float(rng.exponential()), float(rng.integers(1, 60)))
            for w in range(2, 2 + rng.integers(1, options + 1))
        ]
        for i in range(layers)
    }


def everything(options):
    """(cost, loss) of every allocation there is."""
    return [(sum(c.cost for c in p), sum(c.loss for c in p)) for p in product(*options.values())]


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_both_forms_find_what_brute_force_finds(seed, share):
    options = problem(np.random.default_rng(seed), 5)
    points = everything(options)
    for index, solve, attribute in ((0, min_loss, "loss"), (1, max_gain, "cost")):
        values = [p[index] for p in points]
        limit = min(values) + share * (max(values) - min(values))
        best = min(p[1 - index] for p in points if p[index] <= limit)
        found = solve(options, limit)
        assert found.status == "Optimal"
        assert found.gap <= 1e-9  # nothing but float sums
        assert getattr(found, attribute) == pytest.approx(best, rel=1e-9)
        assert (found.cost, found.loss)[index] <= limit * (1 + 1e-9)  # TOLERANCE of the row
        objective = found.loss if attribute == "loss" else found.gain
        assert found.bound == pytest.approx(objective, rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_the_front_is_every_undominated_allocation(seed):
    options = problem(np.random.default_rng(seed), 4, 3)
    points = set(everything(options))
    best = {p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    found = front(options)
    assert [a.cost for a in found] == sorted({c for c, _ in best}, reverse=True)
    assert [a.loss for a in found] == pytest.approx(
        [loss for _, loss in sorted(best, reverse=True)]
    )
    few = front(options, points=4)
    assert {a.cost for a in few} <= {a.cost for a in found}
    assert few[-1].cost == found[-1].cost


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_the_bound_never_rules_out_an_optimum(seed, share):
    rng = np.random.default_rng(seed)
    goal, used = rng.exponential(size=(4, 3)), rng.integers(0, 30, (4, 3)).astype(float)
    used -= used.min(1, keepdims=True)
    limit = share * used.max(1).sum()
    keep = undecided(goal, used, limit)
    rows = np.arange(4)
    values = {
        p: goal[rows, p].sum() for p in product(range(3), repeat=4) if used[rows, p].sum() <= limit
    }
    best = min(values, key=values.get)
    assert keep[rows, best].all()


def test_an_infeasible_budget_names_the_smallest_feasible_one():
    options = {
        "a": [Choice(4, 4, 1.0, 40.0), Choice(8, 8, 0.0, 80.0)],
        "b": [Choice(4, 4, 0.5, 4.0)],
    }
    with pytest.raises(BadInput, match=r"smallest feasible is 44\.0"):
        min_loss(options, 43.9)
    with pytest.raises(BadInput, match=r"smallest feasible is 0\.5"):
        max_gain(options, 0.49)
    assert min_loss(options, 44.0).cost == 44.0
    assert max_gain(options, 0.5).gain == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "without layers"),
        ({"a": []}, "no options"),
        ({"a": [Choice(4, 4, float("nan"), 1.0)]}, "finite"),
    ],
)
def test_what_is_no_problem_is_refused(options, message):
    with pytest.raises(BadInput, match=message):
        min_loss(options, 1.0)


def test_the_same_problem_has_the_same_answer_and_becomes_overrides():
    options = problem(np.random.default_rng(3), 30)
    limit = 0.6 * sum(max(c.cost for c in layer) for layer in options.values())
    first, second = min_loss(options, limit), min_loss(options, limit)
    assert first == second
    assert [(o.layer, o.weights, o.acts) for o in first.overrides] == [
        (name, c.weights, c.acts) for name, c in first.choices.items()
    ]


def test_a_thousand_layers_with_twelve_choices_each():
    rng = np.random.default_rng(0)
    options = {}
    for i in range(1000):
        size, hurt = float(rng.integers(100, 10**6)), rng.gamma(1)
        options[f"layer{i}"] = [
            Choice(w, a, hurt * (4.0**-w + 4.0**-a) * (1 + 0.1 * rng.random()), size * w)
            for w in (2, 3, 4, 8)
            for a in (4, 6, 8)
        ]
    limit = 0.5 * sum(layer[-1].cost for layer in options.values())
    start = time.process_time()
    found = min_loss(options, limit)
    assert time.process_time() - start < 2.0
    assert found.status == "Optimal"
    assert found.cost <= limit


def published(name):
    """The authors' limits on the size, as fractions of float32, and the layers at 4 bits."""
    lines = (
        files("quantbench.reference")
        .joinpath("calibtip", f"configs_{name}.txt")
        .read_text()
        .splitlines()[1:]
    )
    rows = [line.split(None, 1) for line in lines if line.strip()]
    return {float(limit): set(ast.literal_eval(layers)) for limit, layers in rows}


def sizes(name):
    """Weights of every layer, from the architecture."""
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None)
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return {n: m.weight.numel() for n, m in model.named_modules() if isinstance(m, kinds)}


def fraction(weights, at_4):
    """Size with some layers at 4 bits and the rest at 8, as a fraction of float32."""
    assert not at_4 - weights.keys()
    return sum(n * (4 if layer in at_4 else 8) for layer, n in weights.items()) / (
        32 * sum(weights.values())
    )


@pytest.mark.parametrize(
    ("name", "layers", "total", "counts"),
    [
        ("resnet18", 21, 11_678_912, (12, 8, 6, 5, 4, 3, 3, 2, 2, 2, 1, 1)),
        ("resnet50", 54, 25_502_912, (33, 24, 17, 14, 10, 8, 6, 5, 4, 3, 2, 1)),
    ],
)
def test_published_allocations_keep_their_limits(name, layers, total, counts):
    weights, rows = sizes(name), published(name)
    assert (len(weights), sum(weights.values())) == (layers, total)
    assert tuple(len(at_4) for at_4 in rows.values()) == counts
    for limit, at_4 in rows.items():
        assert fraction(weights, at_4) <= limit


def test_published_allocations_of_mobilenet_v2_leave_two_layers_out_of_the_sum():
    weights, rows = sizes("mobilenet_v2"), published("mobilenet_v2".replace("_", ""))
    counted = {n: w for n, w in weights.items() if n not in ("features.18.0", "classifier.1")}
    assert sum(counted.values()) == 1_780_160
    assert all(fraction(counted, at_4) <= limit for limit, at_4 in rows.items())
    assert not any(
        fraction(weights, at_4) <= limit for limit, at_4 in rows.items() if limit <= 0.22
    )
    assert fraction(weights, rows[0.13]) == pytest.approx(0.1884, abs=5e-5)  # four published digits


@pytest.mark.parametrize(
    ("name", "limit"), [("resnet18", 0.13), ("resnet18", 0.18), ("resnet50", 0.15)]
)
def test_the_program_reaches_the_published_sizes(name, limit):
    """With losses that punish just the layers the authors left at 8 bits, theirs is optimal."""
    weights, at_4 = sizes(name), published(name)[limit]
    options = {
        n: [Choice(4, 4, 0.0 if n in at_4 else 1.0, 4.0 * size), Choice(8, 8, 0.0, 8.0 * size)]
        for n, size in weights.items()
    }
    found = min_loss(options, limit * 32 * sum(weights.values()))
    assert found.loss == 0.0
    assert {n for n, c in found.choices.items() if c.weights == 4} <= at_4
