"""Claim files: what a row becomes, and that a malformed file is refused with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.claims import parse
from quantbench.errors import BadInput
from quantbench.quantization.scheme import Override

GOOD = """\
paper = "p"
title = "A Paper"
[defaults]
data = "cifar10/test"
[models]
r20 = { name = "cifar10/resnet20", fp = 91.5 }
r56 = { name = "cifar10/resnet56" }
[schemes.default]
weights = { range = "mse" }
[sources]
t1 = { table = "Table 1", reported = "authors", status = "read" }
other = { reported = "third-party", status = "read" }
[[claim]]
name = "a"
source = "t1"
method = "nearest"
fields = { iterations = 3, widths = [1, 2] }
cells.w4 = { r20 = [90.5, 0.1] }
[[claim]]
name = "b"
kind = "beats"
source = "t1"
method = "adaround"
rival = { method = "nearest" }
cells.w3 = ["r20", "r56"]
[[claim]]
name = "c"
source = "other"
method = "nearest"
cells.w2 = { r20 = { value = 10, to = 11, note = "two runs" }, r56 = 12 }
"""


def test_a_row_becomes_one_claim_for_each_scheme_and_model() -> None:
    a, b20, b56, c20, c56 = parse.parse(GOOD, "p.toml")
    assert (a.id, a.value, a.sd, a.drop, a.where) == (
        "p/cifar10/r20/w4/a",
        90.5,
        0.1,
        1.0,
        "p.toml:13",
    )
    assert a.fields == (("iterations", 3), ("widths", (1, 2)))
    assert (b20.model, b56.model, b20.value, b20.gates) == (
        "cifar10/resnet20",
        "cifar10/resnet56",
        None,
        True,
    )
    assert (c20.asks, c20.note, c20.gates) == ("published 10 to 11 (81.50)", "two runs", False)
    assert (c56.kind, c56.drop) == ("accuracy", None)
    assert hash(a) != hash(b20)


BAD = [
    ('paper = "p"', "paper = p", 1, "Invalid value"),
    ("[defaults]", "[defaults", 3, "at line 3"),
    (
        'data = "cifar10/test"', 'daat = "cifar10/test"',
        4, "unknown key 'daat' in [defaults]; did you mean",
    ),
    ("fp = 91.5 }", "fp = nan }", 6, "fp = nan: must be a finite number"),
    ('r56 = { name = "cifar10/resnet56" }', "r56 = 3", 7, "models.r56 must be a table"),
    ('weights = { range = "mse" }', 'weigths = { range = "mse" }', 9, "did you mean weights"),
    ('status = "read" }\nother', 'status = "seen" }\nother', 11, "status = 'seen'"),
    ('name = "a"\n', "", 13, "[claim] has no name"),
    (
        'source = "t1"\nmethod = "nearest"', 'source = "t2"\nmethod = "nearest"',
        18, "'t2' is not in [sources]",
    ),
    ("widths = [1, 2]", "widths = { a = 1 }", 18, "fields.widths is a table"),
    ("cells.w4 =", "cells.w9 =", 18, "9 bits"),
    ("cells.w4 =", "cells.w4-chanel =", 18, "'chanel' is not in [schemes]"),
    ("cells.w4 =", "cells.w4a8 =", 18, "has no acts"),
    (
        'weights = { range = "mse" }', 'weights = {}\noverrides = { fc = "4" }',
        19, "overrides of 'fc': '4'",
    ),
    ("cells.w4 =", "cells.four =", 18, "name it fp, w4"),
    (
        "{ r20 = [90.5, 0.1] }", "{ r2 = [90.5, 0.1] }",
        18, "'r2' is not in [models]; did you mean r20",
    ),
    ("{ r20 = [90.5, 0.1] }", "{ r20 = [90.5, -0.1] }", 18, "is no published number"),
    ("{ r20 = [90.5, 0.1] }", '{ r20 = "90.5" }', 18, "is no published number"),
    ("{ r20 = [90.5, 0.1] }", "{ r20 = 905 }", 18, "905 is no top-1"),
    ("{ r20 = [90.5, 0.1] }", "{ }", 18, "neither a table of numbers"),
    ('rival = { method = "nearest" }\n', "", 24, "a beats claim needs a rival"),
    (
        'rival = { method = "nearest" }', 'rival = { metod = "nearest" }',
        24, "unknown key 'metod' in rival",
    ),
    ('["r20", "r56"]', "{ r20 = 3.0 }", 25, "a beats claim has no number"),
    ('kind = "beats"', 'kind = "beat"', 21, "kind = 'beat'; did you mean beats"),
    ('source = "other"', 'source = "other"\ngates = true', 31, "may not gate"),
    ("cells.w4 = { r20 = [90.5, 0.1] }", "cells.w4 = { r20 = 0.9 }", 18, "accuracy of chance"),
    ('source = "other"', 'source = "other"\ntol = 1.0', 31, "a tolerance without its reason"),
    ("to = 11", "to = 9", 30, "a range ends above its start"),
    ("cells.w2", "cells.fp", 30, "an fp claim"),
]  # fmt: skip


def test_a_scheme_may_give_layers_bits_of_their_own() -> None:
    text = GOOD.replace(
        'weights = { range = "mse" }', 'weights = {}\noverrides = { "a.b" = 8, fc = [3, 6] }'
    )
    assert parse.parse(text, "p.toml")[0].scheme.overrides == (
        Override("a.b", 8),
        Override("fc", 3, 6),
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "what"), BAD, ids=[f"{b[2]}-{b[3][:30]}" for b in BAD]
)
def test_a_malformed_file_is_refused_with_its_line(
    old: str, new: str, line: int, what: str
) -> None:
    assert GOOD.count(old) >= 1
    # in full precision that row is a sound claim: make it contradict itself
    if what == "an fp claim":
        new = 'kind = "value"\n' + new
        line += 1
        what = "a value claim needs a quantized cell"
    with pytest.raises(BadInput) as caught:
        parse.parse(GOOD.replace(old, new, 1), "p.toml")
    assert str(caught.value).startswith(f"p.toml:{line}: "), caught.value
    assert what in str(caught.value)


TOKENS = st.sampled_from(
    ['"x"', "3", "-1.5", "nan", "true", "[]", "{}", "[1, 2]", "{ a = 1 }", '""', "1979-05-27", "="]
)


@given(st.integers(0, GOOD.count("\n") - 1), TOKENS, st.booleans())
def test_whatever_a_line_becomes_the_error_is_for_people(at: int, token: str, cut: bool) -> None:
    lines = GOOD.splitlines()
    lines[at] = "" if cut else f"{lines[at].partition('=')[0]} = {token}"
    try:
        said = [c.describe() for c in parse.parse("\n".join(lines), "p.toml")]
    except BadInput as e:
        said = [str(e).removeprefix("p.toml:") if str(e).startswith("p.toml:") else ""]
    assert all(said)
