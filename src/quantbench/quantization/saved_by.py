"""Which version of the suite wrote a saved network, and what that means to this one.

Three numbers stand in a folder: the version of the suite, the format of the folder, and the scheme
with all its fields. A field that a later version adds to a scheme has a default, under which older
folders were made; a field that only the folder has was added by a later version than this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from quantbench import __version__
from quantbench.errors import BadInput
from quantbench.quantization.scheme import Scheme

FORMAT = 1  # of folders written here; whoever changes it reads the older ones too, or says so

READS = (1,)

BEFORE = "before 0.1"


def require_readable(about: Any, folder: Path) -> None:
    """Refuse what another version wrote in a form that is not known here.

    Args:
        about: what ``quantized.json`` says.
        folder: for the message.

    Raises:
        BadInput: names the version that wrote it and this one.

    """
    if not isinstance(about, dict):
        raise TypeError(f"quantized.json holds {type(about).__name__}, not an object")
    written = about.get("version", BEFORE)
    if "network_digest" not in about:
        raise BadInput(
            f"{folder}: written by quantbench {written}, which did not keep the digest of the "
            f"network; this is quantbench {__version__}: quantize again"
        )
    found = about.get("format", 1)  # the number itself came a little later than the form
    if found not in READS:
        known = " and ".join(map(str, READS))
        raise BadInput(
            f"{folder}: written by quantbench {written} in format {found}; this is quantbench "
            f"{__version__}, which reads format {known}: load it with {written}"
        )


def another(about: Any) -> str:
    """``; written by quantbench X, this is Y``, where another version wrote it; else nothing."""
    written = about.get("version", BEFORE) if isinstance(about, dict) else __version__
    return (
        ""
        if written == __version__
        else f"; written by quantbench {written}, this is {__version__}"
    )


def differences(saved: Mapping[str, Any], scheme: Scheme) -> list[str]:
    """Fields in which a saved scheme is another than the one asked for, in words.

    What the folder does not say was not known to the version that wrote it, and had the effect of
    its default.
    """
    # as JSON has it: tuples are lists there
    asked = json.loads(json.dumps(asdict(scheme)))
    filled = _with_defaults(dict(saved), scheme)
    keys = [*asked, *(k for k in filled if k not in asked)]
    return [
        f"{k} {filled.get(k)!r}, not {asked.get(k)!r}"
        for k in keys
        if filled.get(k) != asked.get(k)
    ]


def _with_defaults(saved: dict[str, Any], like: Any) -> dict[str, Any]:
    """A saved dataclass with the fields that it lacks, as they are by default."""
    filled = dict(saved)
    for f in fields(like):
        value = getattr(like, f.name)
        if f.name not in filled and f.default is not MISSING:
            filled[f.name] = json.loads(json.dumps(f.default, default=asdict))
        elif is_dataclass(value) and isinstance(filled.get(f.name), dict):
            filled[f.name] = _with_defaults(filled[f.name], value)
    return filled
