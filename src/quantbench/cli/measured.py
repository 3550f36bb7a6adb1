"""``quantbench measured``: the verdicts of finished runs into the file that git keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantbench.data.roots import clone_root
from quantbench.errors import BadInput

SIDE_BY_SIDE = "tables"  # the paper whose claims make them


def measured(folders: Sequence[Path], path: Path | None = None, tables: Path | None = None) -> int:
    """Write the file anew: rows of what is finished now, the others as they were.

    Args:
        folders: of finished runs.
        path: the file; ``reference/measured.md`` of the clone if not given.
        tables: where tables of methods side by side go; nowhere if not given.

    Raises:
        BadInput: a folder that is not there, or a file that this command did not write.

    """
    from quantbench.claims.catalog import read_claims
    from quantbench.report.measured.collect import measured as of
    from quantbench.report.measured.collect import merged
    from quantbench.report.measured.document import counts, read, to_markdown
    from quantbench.system.atomic import write_atomically
    from quantbench.system.progress_bar import progress_bar

    if absent := [folder for folder in folders if not folder.is_dir()]:
        raise BadInput(f"there is no folder {str(absent[0])!r} of finished runs")
    path = path or clone_root() / "reference" / "measured.md"
    known = read(path) if path.exists() else []
    claims = read_claims()
    fresh = list(of(claims, folders, progress_bar()))
    rows = merged(known, fresh, claims)
    write_atomically(path, to_markdown(rows))
    print(f"{path}: {len(fresh)} claims measured, {len(rows) - len(fresh)} kept")
    print(counts(rows))
    if tables:
        from quantbench.report.measured.collect import judged
        from quantbench.report.measured.side_by_side import to_markdown as side_by_side

        write_atomically(
            tables, side_by_side(judged(claims, folders, progress_bar()), SIDE_BY_SIDE)
        )
        print(tables)
    return 0
