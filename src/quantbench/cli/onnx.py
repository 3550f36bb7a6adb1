"""``quantbench onnx``: what another tool has quantized, read, and beside our own."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from quantbench.errors import BadInput


def run(options: argparse.Namespace) -> int:
    """Describe files, or compare them on a network's examples."""
    from quantbench.integer.qdq.read import read

    for file in options.files:
        found = read(file)
        kinds = Counter(type(op).__name__ for op in found.program.ops)
        print(f"{found.path}: written by {found.producer}")
        counted = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        print(f"    w{found.weight_bits}a8, images {found.program.shape}: {counted}")
        for note in found.notes:
            print(f"    {note}")
    if options.model:
        _compare(options)
    return 0


def _compare(options: argparse.Namespace) -> None:
    """Print the table, and keep it with the score of every example."""
    from quantbench.comparison.files import beside_ours
    from quantbench.quantization.registry import make
    from quantbench.system.progress_bar import progress_bar
    from quantbench.tasks.registry import task

    if not options.eval or not options.calib:
        raise BadInput(
            "--model needs --eval and --calib, such as --model shapes/resnet8 --eval shapes/test "
            "--calib shapes/calib"
        )
    table = beside_ours(
        options.files,
        task(options.model, options.eval),
        make(options.method),
        options.calib,
        options.examples,
        seed=options.seed,
        progress=progress_bar(),
    )
    print(table)
    path = Path(options.runs) / "onnx" / f"{Path(options.files[0]).stem}.json"
    table.save(path)
    print(f"kept in {path}")
