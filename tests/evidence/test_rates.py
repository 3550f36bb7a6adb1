"""How often verdicts are wrong, by simulation of whole claims: images, seeds, published numbers.

Each rate is of fixed draws, so that a test passes always or never. The figures in the docs are
these.
"""

from dataclasses import replace

import numpy as np
import pytest

from quantbench.data.roots import clone_root
from quantbench.evidence.judge import judge
from quantbench.evidence.rates import (
    LIMIT,
    NOISE,
    PUBLISHED,
    main,
    outcomes,
    quantized,
    seeds,
    told_apart,
)

SETS = 1000
SE = 0.005  # of a rate of 2.5 % in as many data sets

CHANCE = 0.025 + 3 * SE  # one end of a 95 % interval


def rates_of_drops(n, true):
    return outcomes(PUBLISHED, lambda rng: [quantized(rng, n, true)])


@pytest.mark.parametrize("true", [1.0, 3.0])
def test_a_difference_as_large_as_the_tolerance_is_seldom_called_reproduced(true):
    rates = rates_of_drops(5000, true)
    assert 0 < rates["REPRODUCED"] <= CHANCE
    assert rates.get("BELOW", 0) + rates.get("ABOVE", 0) <= CHANCE
    assert rates["UNDECIDED"] > 0.9


def test_no_difference_is_reproduced_with_enough_images_and_undecided_with_few():
    many, few = rates_of_drops(10_000, 2.0), rates_of_drops(300, 2.0)
    assert many["REPRODUCED"] > 0.95
    assert "REPRODUCED" not in few
    assert few["UNDECIDED"] > 0.99


def test_two_points_away_are_never_reproduced_on_few_images():
    """By the rule that added the interval to the tolerance it was REPRODUCED in most cases."""
    assert "REPRODUCED" not in rates_of_drops(300, 4.0)


@pytest.mark.parametrize(
    ("true", "wrong"), [(0.0, "MISSED"), (0.5, "MISSED"), (1.5, "HOLDS"), (3.0, "HOLDS")]
)
def test_a_limit_on_a_thousand_images_is_not_decided_wrongly(true, wrong):
    rates = outcomes(LIMIT, lambda rng: [quantized(rng, 1000, true)])
    assert rates.get(wrong, 0) <= CHANCE


@pytest.mark.parametrize("n", [1000, 10_000])
def test_at_the_limit_itself_either_error_has_its_chance(n):
    rates = outcomes(LIMIT, lambda rng: [quantized(rng, n, 1.0)])
    assert 0 < rates["HOLDS"] <= CHANCE
    assert 0 < rates["MISSED"] <= CHANCE


@pytest.mark.parametrize("n", [1000, 10_000])
def test_three_seeds_seldom_tell_equal_methods_apart(n):
    assert told_apart(3, n) <= 0.05


def test_one_seed_often_does_which_is_why_it_is_printed():
    assert told_apart(1, 10_000) > 0.25


def test_a_limit_with_seeds_is_as_seldom_decided_wrongly():
    rates = outcomes(LIMIT, lambda rng: seeds(rng, 3, 10_000, drop=1.0), sets=400)
    assert max(rates.get("HOLDS", 0), rates.get("MISSED", 0)) <= 0.05


def test_the_interval_of_the_difference_holds_the_truth():
    """Three of our seeds against one published run on other images: 95 % or more."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        published = quantized(rng, 50_000, 2.0 + NOISE * rng.normal()).drop
        claim = replace(PUBLISHED, value=published, data="cifar10/test_1000", published_on="all")
        found = judge(claim, dict(enumerate(seeds(rng, 3, 5000)))).difference
        held += found.low <= 0 <= found.high
    assert held / 400 >= 0.95 - 0.02


def test_the_page_has_what_the_command_prints(capsys):
    main()
    *table, one, three = capsys.readouterr().out.splitlines()
    page = (clone_root() / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert "\n".join(table) in page
    shares = [line.split(": ")[1] for line in (one, three)]
    assert (
        f"images in {shares[0]} of 400\ncases with one seed each, and in {shares[1]} with" in page
    )
