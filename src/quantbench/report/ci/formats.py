"""Cases as JUnit XML, as GitHub's workflow commands, and as a Markdown summary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from quantbench.report.ci.case import Case
from quantbench.system.markdown import cell

LONGEST = 200  # rows of a summary; GitHub cuts a file off at 1 MiB

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(cases: Sequence[Case], name: str) -> str:
    """A test suite in the layout of JUnit's XML, which CI systems read.

    Args:
        cases: in order.
        name: of the suite, such as ``quantbench gate``.

    """
    suites = ET.Element("testsuites")
    counts = Counter(case.level for case in cases)
    total = {"tests": str(len(cases)), "failures": str(counts["error"])}
    about = {"name": name, **total, "errors": "0", "skipped": str(counts["skipped"])}
    suite = ET.SubElement(suites, "testsuite", about)
    for case in cases:
        at = {"classname": case.group, "name": case.name, "time": f"{case.seconds:.3f}"}
        one = ET.SubElement(suite, "testcase", {k: _xml(v) for k, v in at.items()})
        if case.level in ("error", "skipped"):
            tag = "failure" if case.level == "error" else "skipped"
            ET.SubElement(one, tag, {"message": _xml(case.word)}).text = _xml(case.text)
        elif case.level == "warning":
            ET.SubElement(one, "system-out").text = _xml(f"{case.word}: {case.text}")
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("?", text)


def github(cases: Sequence[Case]) -> list[str]:
    """Workflow commands: an annotation for each error and each warning."""
    lines = []
    for case in cases:
        if case.level in ("error", "warning"):
            where = {"file": case.file, "line": str(case.line or "")} if case.file else {}
            given = {**where, "title": f"{case.word}: {case.name}"}
            properties = ",".join(f"{k}={_escaped(v, ':,')}" for k, v in given.items() if v)
            lines.append(f"::{case.level} {properties}::{_escaped(case.text or case.word)}")
    return lines


def _escaped(text: str, more: str = "") -> str:
    """Text of a workflow command; ``more`` are the characters that a property may not hold."""
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + more else c for c in text)


def summary(cases: Sequence[Case], title: str) -> str:
    """Counts, then a table of errors and warnings; what was skipped is folded away."""
    counts = Counter(case.word for case in cases)
    listed = ", ".join(f"{n} {word}" for word, n in counts.most_common())
    loud = [c for level in ("error", "warning") for c in cases if c.level == level]
    quiet = [c for c in cases if c.level == "skipped"]
    lines = [f"## {title}", "", listed or "nothing was looked at", "", *_table(loud)]
    if quiet:
        lines += [f"<details><summary>{len(quiet)} skipped</summary>", "", *_table(quiet)]
        lines += ["</details>", ""]
    return "\n".join(lines)


def _table(cases: Sequence[Case]) -> list[str]:
    """A row for each case, none where there are none."""
    if not cases:
        return []
    rows = [f"| {c.word} | {cell(c.name)} | {cell(c.text)} |" for c in cases[:LONGEST]]
    more = [f"| | {len(cases) - LONGEST} more | |"] if len(cases) > LONGEST else []
    return ["| | what | details |", "|---|---|---|", *rows, *more, ""]
