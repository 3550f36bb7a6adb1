"""What a sweep runs: every method on every scheme and network, with every seed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantbench.claims.claim import CalibrationSet
from quantbench.errors import BadInput
from quantbench.quantization.scheme import Scheme
from quantbench.runs.cell import Cell
from quantbench.runs.lab import Lab
from quantbench.runs.recipe import Recipe
from quantbench.tasks.registry import task
from quantbench.tasks.task import Task


@dataclass(frozen=True)
class NetworkData:
    """A network with the data that it is calibrated and evaluated on.

    Attributes:
        name: as :func:`quantbench.tasks.registry.task` takes it.
        data: evaluation set.
        calib: calibration set, and how many examples are drawn from it.

    """

    name: str
    data: str
    calib: CalibrationSet

    def __str__(self) -> str:
        """Such as ``shapes/resnet8 on shapes/test, shapes/calib:64``."""
        return f"{self.name} on {self.data}, {self.calib.data}:{self.calib.n}"


@dataclass(frozen=True)
class Job:
    """One cell of a sweep, by names alone: another machine finds its own data by them.

    Attributes:
        recipe: the method.
        scheme_name: such as ``w4a8-channel``.
        scheme: what it stands for.
        network: the network and its data.
        seed: of the run.

    """

    recipe: Recipe
    scheme_name: str
    scheme: Scheme
    network: NetworkData
    seed: int

    @property
    def row(self) -> tuple[str, str, str]:
        """What seeds are averaged over: network with its data, scheme, method with its fields."""
        return str(self.network), self.scheme_name, self.method

    @property
    def method(self) -> str:
        """The method in words."""
        fields = ", ".join(f"{name}={value}" for name, value in self.recipe.options)
        return f"{self.recipe.method}({fields})" if fields else self.recipe.method

    def __str__(self) -> str:
        """Such as ``shapes/resnet8 on shapes/test, shapes/calib:64/w4/adaround(lr=0.01)/s0``."""
        return "/".join((*self.row, f"s{self.seed}"))

    def cell(self, lab: Lab, where: Task | None = None) -> Cell:
        """The cell, with the digests of the data that are here.

        Args:
            lab: where it is to run.
            where: the network's task, where it is known already.

        Raises:
            BadInput: there is no such method, field or network.
            DataMissing: the network or its data are not here.

        """
        n = self.network
        found = where or task(n.name, n.data)
        cell = lab.cell(found, self.recipe, self.scheme, n.calib.data, n.calib.n, self.seed)
        cell.described  # noqa: B018 - wrong options are an error before anything runs
        return cell


@dataclass(frozen=True)
class Sweep:
    """A whole sweep.

    Attributes:
        recipes: the methods, each with its fields.
        schemes: by name.
        networks: each with its data.
        seeds: of every combination.

    """

    recipes: Sequence[Recipe]
    schemes: Mapping[str, Scheme]
    networks: Sequence[NetworkData]
    seeds: Sequence[int]

    def jobs(self) -> Iterator[Job]:
        """Every combination once: all of one seed first, so that a first table comes early."""
        recipes, networks = dict.fromkeys(self.recipes), dict.fromkeys(self.networks)
        every = itertools.product(self.seeds, networks, self.schemes.items(), recipes)
        for seed, network, (name, scheme), recipe in every:
            yield Job(recipe, name, scheme, network, seed)


@dataclass(frozen=True)
class Shard:
    """The ``number``-th of ``of`` parts, from 1; its jobs are every ``of``-th."""

    number: int = 1
    of: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """``i/n``.

        Raises:
            BadInput: no such form, or i is not in 1..n.

        """
        m = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not m or not 1 <= int(m[1]) <= int(m[2]):
            raise BadInput(f"shard {text!r}: write i/n with i from 1 to n, such as 2/8")
        return cls(int(m[1]), int(m[2]))

    def take(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """The jobs of this part."""
        return itertools.islice(jobs, self.number - 1, None, self.of)


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every choice of one value for each key; one empty choice for no keys."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
