"""Where activations are quantized so that the network can run on integers.

A quantizer goes behind every tensor that has to exist: the network input; each layer after its
activation function; each residual add after its own; concatenations, average pools, normalizations
and other functions. Max pools, flattening, padding, subsampling and choosing channels keep the
format they get. Three tensors never exist on their own, so they have no quantizer: the logits, the
output of a layer that goes straight into a residual add (the layer's integer form contains the
add), and the output of a layer that only feeds a concatenation (quantizing the concatenation
quantizes it, element by element). Where logits are interpolated, the result is what has no
quantizer; the layer's own output has one, with 8 bits.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor, fx, nn

from quantbench.errors import Unsupported
from quantbench.network.graph.calls import Node
from quantbench.network.graph.forward_pass import rewritten, same_calls
from quantbench.network.graph.recording import Container, Recording
from quantbench.network.modules import Operand
from quantbench.network.network import Network
from quantbench.quantization.layers import ActQuant, QuantLayer
from quantbench.quantization.placement.arguments import KEEPS_FORMAT
from quantbench.quantization.placement.graph import record_operators
from quantbench.quantization.placement.kinds import MAPS, SUMS
from quantbench.quantization.placement.operators import kind
from quantbench.quantization.scheme import Grid, Scheme

MOVES = {"flatten", "rearrange"}  # words of what only changes shapes and orders


def place(
    model: nn.Module, net: Network, scheme: Scheme, rules: type[Graph] | None = None
) -> nn.Module:
    """Put activation quantizers into a model.

    Containers that get one become ``torch.fx.GraphModule``. Module names stay; a quantizer is
    called after what it quantizes: ``layer1.0.relu2_act``.

    Args:
        model: simulation of ``net``, its layers in place; changed.
        net: gives the sample and the names.
        scheme: what is quantized.
        rules: behind which calls quantizers go, and their grids; by default those of this module.

    Returns:
        the model, a new object if it is itself rewritten.

    Raises:
        Unsupported: a scheme without activation bits, or a module that cannot be traced.

    """
    if scheme.acts is None:
        raise Unsupported(
            f"scheme {scheme} has no activation bits: an integer network needs them, such as w4a8"
        )
    if len(net.sample) != 1 or net.sample[0].dim() not in MAPS[1:]:
        shapes = ", ".join(str(tuple(t.shape)) for t in net.sample)
        raise Unsupported(
            f"{net.name}: placement {scheme.placement} takes one tensor of images or vectors, not "
            f"inputs of shapes {shapes}; quantbench.integer.lowering.linears runs the linear "
            "layers of such a network on integers"
        )
    if not net.sample[0].is_floating_point():
        raise Unsupported(
            f"{net.name}: placement {scheme.placement} takes images or vectors of floats, not row "
            f"numbers of a table or other {net.sample[0].dtype}: convert images before the "
            "network; quantbench.integer.lowering.linears runs the linear layers of a network that "
            "looks rows up on integers"
        )
    recording, by_container = _grids(model, net, scheme, rules or Graph)
    for path in sorted(by_container, key=lambda p: -p.count(".") if p else 1):
        model = _insert(model, _container(recording, path), by_container[path])
    return model


def _grids(
    model: nn.Module, net: Network, scheme: Scheme, rules: type[Graph]
) -> tuple[Recording, Mapping[str, Mapping[fx.Node, Grid]]]:
    """A recording, and behind which calls of each container quantizers go.

    None go into a module whose recorded call cannot stand for it; they go around it.
    """
    opaque: dict[nn.Module, str] = {}
    while True:
        recording = record_operators(model, net.sample[0][:1], opaque)
        nodes = rules(recording.nodes)
        found: dict[str, dict[fx.Node, Grid]] = defaultdict(dict)
        for node in nodes.quantized():
            found[node.container].setdefault(node.local, nodes.grid(node, scheme, net.edges))
        odd = [c for c in recording.containers if c.obstacle and c.path and c.path in found]
        if not odd:
            return recording, found
        opaque |= {c.module: f"{type(c.module).__name__}: {c.obstacle}" for c in odd}


def place_operands(model: nn.Module, net: Network, scheme: Scheme) -> None:
    """Activation quantizers where attention multiplies activations and takes a softmax.

    Raises:
        Unsupported: a scheme without activation bits, or a network without attention.

    """
    names = [n for n, m in model.named_modules() if isinstance(m, Operand)]
    if not names or scheme.acts is None:
        why = "no activation bits" if names else "no attention"
        raise Unsupported(f"{net.name} under {scheme}: placement attention, and {why}")
    for name in names:
        model.set_submodule(name, ActQuant(scheme.acts))


class Graph:
    """Calls with what they mean; decisions that ``place`` and ``lower`` share."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.kinds = {n: kind(n) for n in nodes}

    def users(self, node: Node) -> list[Node]:
        """Who takes a value, looking through calls that do nothing."""
        found: list[Node] = []
        for user in node.users:
            found += self.users(user) if self.kinds[user].word == "same" else [user]
        return found

    def source(self, node: Node) -> Node:
        """Where a value comes from, looking back through calls that do nothing."""
        while self.kinds[node].word == "same":
            node = node.inputs[0]
        return node

    def fused(self, add: Node) -> Node | None:
        """The layer that computes a residual add: the first operand that only feeds the add."""
        for operand in map(self.source, add.inputs):
            if self.kinds[operand].word in SUMS and self.users(operand) == [add]:
                return operand
        return None

    def quantized(self) -> Iterator[Node]:
        """The calls behind which a quantizer goes."""
        for node in self.nodes:
            if node.op != "output" and self._is_quantized(node):
                yield node

    def _is_quantized(self, node: Node) -> bool:  # noqa: PLR0911 - a rule a kind
        users, word = self.users(node), self.kinds[node].word
        words = [self.kinds[u].word for u in users]
        if not users:
            return False
        if word == "clamp":
            source = self.source(node.inputs[0])
            behind = self.kinds[source].word in (*SUMS, "add") and len(self.users(source)) == 1
            return behind and words != ["concat"]
        if word in SUMS:
            if words in (["clamp"], ["concat"]) or self._only_shown(node):
                return False
            return not (words == ["add"] and self.fused(users[0]) is node)
        if word == "add":
            return words not in (["clamp"], ["concat"])
        if self._shows(node):
            return False
        if word == "lut" and self._readers(node) == {"other"}:
            return False  # floats read it as it is: a tiny number that it adds is not lost
        if word == "other":
            floats = self._readers(node) == {"other"} or set(words) <= {"other", "output"}
            given = not floats and not self._only_shown(node)
            return given and node.op != "get_attr" and node.by_example and _is_map(node.example)
        return word not in (*KEEPS_FORMAT, "quant", "output")

    def _readers(self, node: Node) -> set[str]:
        """Words of who reads a value, looking through what keeps its format.

        A function of one tensor that only islands read is a part of them.
        """
        found: set[str] = set()
        for user in self.users(node):
            word = self.kinds[user].word
            behind = self._readers(user) if word in (*KEEPS_FORMAT, "lut") else set()
            through = word in KEEPS_FORMAT or behind == {"other"}
            found |= behind if through else {word}
        return found

    def _only_shown(self, node: Node) -> bool:
        """Whether a value is the network's output, perhaps in another order, and nothing else."""
        users = self.users(node)
        while users and {self.kinds[u].word for u in users} <= MOVES:
            users = [u for moved in users for u in self.users(moved)]
        return {self.kinds[u].word for u in users} == {"output"}

    def _shows(self, node: Node) -> bool:
        """Whether a call interpolates the network's output, and nothing else reads it."""
        only = {self.kinds[u].word for u in self.users(node)} == {"output"}
        return self.kinds[node].word == "resize" and only

    def grid(self, node: Node, scheme: Scheme, edges: frozenset[str]) -> Grid:
        """The most bits that a reading layer asks for; 8 where none reads, which cost nothing.

        That is before a table, and before the network's output is interpolated.
        """
        assert scheme.acts is not None
        todo = self.users(node)
        if todo and all(self.kinds[u].word == "lut" or self._shows(u) for u in todo):
            return replace(scheme.acts, bits=8, kind="uniform")
        return self.asked(node, scheme, edges, KEEPS_FORMAT)

    def asked(
        self, node: Node, scheme: Scheme, edges: frozenset[str], through: tuple[str, ...]
    ) -> Grid:
        """The most bits that a layer asks for which reads a value, perhaps through some calls."""
        assert scheme.acts is not None
        asked: list[Grid] = []
        todo = self.users(node)
        while todo:
            user = todo.pop()
            if isinstance(user.target, QuantLayer):
                name = user.target.info.name
                grid = scheme.act_grid(name, edge=name in edges)
                asked.append(grid or scheme.acts)
            elif self.kinds[user].word in through:
                todo += self.users(user)
        return max(asked, key=lambda g: (g.bits, g.kind == "uniform"), default=scheme.acts)


def _is_map(value: object) -> bool:
    """Whether a value is a float tensor of a rank that programs have."""
    return isinstance(value, Tensor) and value.dim() in MAPS and value.is_floating_point()


def _container(recording: Recording, path: str) -> Container:
    """The one call of a container, or the first of several that do the same.

    Raises:
        Unsupported: it does one thing in one call and another in the next.

    """
    first, *others = (c for c in recording.containers if c.path == path)
    if not all(same_calls(first, other) for other in others):
        raise Unsupported(
            f"{path} ({type(first.module).__name__}) runs {len(others) + 1} times and does not do "
            "the same each time: give each use a module of its own"
        )
    return first


def _insert(model: nn.Module, container: Container, grids: Mapping[fx.Node, Grid]) -> nn.Module:
    """Rewrite one container.

    Returns:
        the network, a new object if the container is the whole of it.

    """
    made, graph = rewritten(container), container.graph
    for local, grid in grids.items():
        if local.graph is not graph:
            continue  # the same call in another use of the container
        name = f"{local.name}_act"
        made.add_module(name, ActQuant(grid))
        with graph.inserting_after(local):
            quant = graph.call_module(name, (local,))
        local.replace_all_uses_with(quant, delete_user_cb=partial(operator.is_not, quant))
    made.graph = graph
    made.train(container.module.training)
    if not container.path:
        return made
    model.set_submodule(container.path, made)
    return model
