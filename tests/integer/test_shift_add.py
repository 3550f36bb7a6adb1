import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.conformance import small_network
from quantbench.errors import Unsupported
from quantbench.integer import oracle
from quantbench.integer.ir import Conv
from quantbench.integer.lowering.lower import lower
from quantbench.integer.scales import conv_multiplier, ratio
from quantbench.integer.shift_add import (
    Operations,
    accumulators,
    multiply,
    operations,
    shift_and_add,
    shifts,
    tables,
)
from quantbench.methods.nearest import Nearest
from quantbench.quantization.levels import code_levels
from quantbench.quantization.method import quantize
from quantbench.quantization.scheme import Grid, Scheme

TERMS = {
    ("apot", 2): 1,
    ("apot", 3): 1,
    ("apot", 4): 2,
    ("apot", 5): 2,
    ("apot", 6): 3,
    ("pot", 4): 1,
}


@pytest.mark.parametrize(("kind", "bits"), list(TERMS))
def test_every_code_is_a_sum_of_the_published_number_of_powers_of_two(kind, bits):
    table = shifts(kind, bits, signed=True)
    assert tuple(table) == code_levels(kind, bits, signed=True)
    for code, places in table.items():
        assert sum(2**e for e in places) == abs(code)
        assert len(set(places)) == len(places) <= TERMS[kind, bits]


@given(
    bits=st.integers(2, 6), kind=st.sampled_from(["apot", "uniform"]), seed=st.integers(0, 2**31)
)
def test_products_are_those_of_multiplication(bits, kind, seed):
    rng, table = np.random.default_rng(seed), shifts(kind, bits, signed=True)
    x, codes = rng.integers(-255, 256, 500), rng.choice(list(table), 500)
    assert (multiply(x, codes, table) == x * codes).all()


@pytest.mark.parametrize("bits", [2, 4, 5])
def test_network_computes_the_same_bit_for_bit(bits):
    net, x = small_network()
    s = Scheme(
        Grid(bits, "apot", per_channel=True),
        Grid(4, "apot", symmetric=False),
        "integer",
        first_last_bits=8,
    )
    program = lower(quantize(Nearest(), net, x, s))
    tensors = oracle.run(program, x[:1].numpy())
    inner = [op for op in program.ops if isinstance(op, Conv) and op.name not in net.edges]
    for op in inner:
        f = program.formats[op.inputs[0]]
        data = tensors[op.inputs[0]].astype(np.int64) - f.zero
        acc = accumulators(op, data, shifts("apot", bits, signed=True))
        m = conv_multiplier(f.scale, op.weight_scale, op.out.scale)
        t = acc.astype(np.float32) * m[:, None, None]
        if len(op.inputs) > 1:
            r, g = tensors[op.inputs[1]], program.formats[op.inputs[1]]
            steps = (r.astype(np.int64) - g.zero).astype(np.float32)
            t = t + steps * ratio(g.scale, op.out.scale)
        y = np.clip(oracle.quantize(t, op.out), op.lo[:, None, None], op.hi[:, None, None])
        assert (y == tensors[op.output]).all()
    count = operations(program, tables([op.name for op in inner], "apot", bits))
    assert count.multiplications == sum(i.macs for i in net.layers if i.name not in net.edges)
    nonzero = sum(int((op.weight != 0).sum()) * tensors[op.output][0, 0].size for op in inner)
    assert nonzero <= count.additions <= nonzero * (1 if bits == 2 else 2)
    assert operations(program, {}) == Operations(0, 0, 0)


def test_numbers_of_a_network_beside_uniforms():
    net, x = small_network()
    acts, found = Grid(4, symmetric=False, range="minmax"), {}
    for kind in ("apot", "uniform"):
        s = Scheme(Grid(4, kind, range="minmax"), acts, "integer", first_last_bits=8)
        q = quantize(Nearest(), net, x[:2], s)
        grids = {i.name: q.weight_grid(i.name) for i in net.layers if i.name not in net.edges}
        found[kind] = shift_and_add(lower(q), grids)
        assert found[kind]["shift_and_add/multiplications_of_integers"] == sum(
            i.macs for i in net.layers
        )
        edges = sum(i.macs for i in net.layers if i.name in net.edges)
        assert found[kind]["shift_and_add/multiplications_kept"] == edges
    inner = found["apot"]["shift_and_add/multiplications_of_integers"] - edges
    # two terms at 4 bits, sign included
    assert found["apot"]["shift_and_add/additions"] <= 2 * inner
    # up to three ones below the sign
    assert found["uniform"]["shift_and_add/additions"] <= 3 * inner
    with pytest.raises(Unsupported, match="integer"):
        lower(quantize(Nearest(), net, x[:2], Scheme(Grid(4, "apot"), acts)))


def test_what_has_no_such_form_is_refused():
    net, x = small_network()
    program = lower(
        quantize(Nearest(), net, x, Scheme(Grid(4), Grid(8, symmetric=False), "integer"))
    )
    op = next(op for op in program.ops if isinstance(op, Conv))
    with pytest.raises(Unsupported, match="no sums"):
        accumulators(op, np.zeros((1, 3, 32, 32), np.int64), shifts("apot", 4, signed=True))
    with pytest.raises(Unsupported, match="more than int64"):
        shifts("pot", 8, signed=True)
