"""What every method must hold; run by pytest once the package is installed."""

from quantbench_halfway import Halfway

import quantbench as qb


def test_conformance() -> None:
    """The same seed gives the same bits, nothing global is touched, every code is on its grid."""
    qb.check(Halfway())


def test_its_name_makes_it() -> None:
    """The entry point leads here."""
    assert qb.method("halfway") == Halfway()
