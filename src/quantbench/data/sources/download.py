"""One file over HTTP: resumed, timed out, never half there."""

from __future__ import annotations

import errno
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quantbench.errors import QuantbenchError
from quantbench.system.progress import Progress, silent

_CHUNK = 1 << 16

_OK, _BAD_RANGE, _SERVER_TROUBLE = 200, 416, 500


class FetchFailed(QuantbenchError):
    """A download did not finish; what arrived is kept, and the next try goes on from there."""


@dataclass(frozen=True)
class Patience:
    """When to give up.

    Attributes:
        timeout: seconds without a byte, and the span over which the rate is judged.
        rate: bytes a second below which a server counts as stuck.
        tries: attempts; each goes on where the one before stopped.

    """

    timeout: float = 30.0
    rate: float = 512.0
    tries: int = 3


PATIENCE = Patience()


def download(
    url: str, path: Path, *, progress: Progress = silent, patience: Patience = PATIENCE
) -> Path:
    """Download to ``path``, through ``path.part``, which a later call resumes.

    Progress is told in bytes: so far, in all (0 when the server does not say), and the file's name.

    Returns:
        ``path``; a file that is already there is not asked for again.

    Raises:
        FetchFailed: unreachable, refused, too slow or cut short after all tries; or the disk is
            full, in which case the partial file is removed.

    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    trouble = ""
    for _ in range(patience.tries):
        try:
            _transfer(url, part, progress, patience)
        except urllib.error.HTTPError as e:
            trouble = f"{e.code} {e.reason}"
            if e.code == _BAD_RANGE:
                part.unlink(missing_ok=True)  # what is there is no beginning of the file
            elif e.code < _SERVER_TROUBLE:
                raise FetchFailed(f"{url} answers {trouble}; has the source moved?") from e
        except (
            TimeoutError,
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
        ) as e:
            trouble = str(getattr(e, "reason", None) or e) or type(e).__name__
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            part.unlink(missing_ok=True)
            raise FetchFailed(
                f"the disk is full: {path} could not be written and nothing of it was left"
            ) from e
        else:
            part.replace(path)
            return path
    have = part.stat().st_size if part.exists() else 0
    raise FetchFailed(
        f"{url} failed {patience.tries} times, last: {trouble}; {have} bytes are kept in {part}: "
        "run the same command again to go on from there"
    )


def _transfer(url: str, part: Path, progress: Progress, patience: Patience) -> None:
    """One attempt: append to the part file, or begin anew when the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=patience.timeout) as answer:  # noqa: S310 - the base URL is the user's
        if answer.status == _OK:
            have = 0
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length else 0
        with part.open("ab" if have else "wb") as file:
            _copy(
                answer,
                file.write,
                lambda n: progress(have + n, whole, part.name.removesuffix(".part")),
                patience,
            )
    got = part.stat().st_size
    if whole and got < whole:
        raise http.client.HTTPException(f"cut short at {got} of {whole} bytes")


def _copy(
    answer: http.client.HTTPResponse,
    write: Callable[[bytes], object],
    tell: Callable[[int], object],
    patience: Patience,
) -> None:
    """Copy until the end; a server that drips slower than the least rate is stuck."""
    count, seen, since = 0, 0, time.monotonic()
    while block := answer.read1(_CHUNK):
        write(block)
        count += len(block)
        tell(count)
        elapsed = time.monotonic() - since
        if elapsed > patience.timeout:
            if count - seen < patience.rate * elapsed:
                raise TimeoutError(f"timed out: {count - seen} bytes in {elapsed:.0f} seconds")
            seen, since = count, time.monotonic()
