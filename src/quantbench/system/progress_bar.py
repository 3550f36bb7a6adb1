"""Bars in terminals and notebooks, for whoever waits."""

from __future__ import annotations

from typing import Any

from quantbench.system.progress import Progress


def progress_bar() -> Progress:
    """What ``quantize`` and ``compare`` take as ``progress``: a bar for each thing that goes on."""
    from tqdm.auto import tqdm

    bars: dict[str, Any] = {}

    def show(done: int, total: int, what: str) -> None:
        if what not in bars:
            for bar in bars.values():
                bar.close()
            bars.clear()
            bars[what] = tqdm(total=total, desc=what)
        bar = bars[what]
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bars.pop(what).close()

    return show
