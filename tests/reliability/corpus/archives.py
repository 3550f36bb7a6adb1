"""Archives that are damaged, or whose members lead elsewhere."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from quantbench.data import content_digest, masks, readers
from quantbench.data.sources.convert_data import unzip_json
from quantbench.tasks.detection.coco import CocoSet, TarFolder
from tests.reliability.corpus.row import Bad, Meets, file


def tar(*added: tarfile.TarInfo) -> bytes:
    """A .tar of these members, each of as many zeros as it says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in added:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    """One member."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, to
    made.size = 3 if kind == tarfile.REGTYPE else 0
    return made


def _tar(wrong: str, content: bytes, *says: str, meets: Meets | None = None) -> Bad:
    return Bad("archives", wrong, file("a.tar", content), meets or _masks, ("a.tar", *says))


def _masks(folder: Path) -> object:
    return masks.voc(folder / "a.tar")


def _listed(folder: Path) -> object:
    """The images that a CSV lists."""
    (folder / "a.csv").write_text("file,label\nx.jpg,1\n")
    return readers.tar(folder / "a.tar", folder / "a.csv")


def _boxes(folder: Path) -> object:
    content = {"images": [{"id": 1, "file_name": "x.jpg"}]}
    return CocoSet("mine", content, TarFolder(folder / "a.tar"), "").image(1)


def _digest(folder: Path) -> object:
    return content_digest.digest(folder / "a.tar")


def _zip(wrong: str, content: Callable[[], bytes], *says: str) -> Bad:
    def make(folder: Path) -> None:
        file("a.zip", content())(folder)

    def meets(folder: Path) -> object:
        return unzip_json(lambda *_: [folder / "a.zip"], folder / "out.gz", "a.zip")

    return Bad("archives", wrong, make, meets, ("a.zip", *says))


def zipped(**members_: bytes) -> bytes:
    """A .zip; ``_`` in a name is a point."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members_.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def _broken_sum() -> bytes:
    """A member whose bytes are not those of its checksum."""
    whole = bytearray(zipped(a_json=b"[1, 2, 3]" * 9))
    whole[40] ^= 255
    return bytes(whole)


def _encrypted() -> bytes:
    """A member that says that it is encrypted."""
    whole = bytearray(zipped(a_json=b"[]"))
    for start in (whole.index(b"PK\x03\x04") + 6, whole.index(b"PK\x01\x02") + 8):
        whole[start] |= 1
    return bytes(whole)


WHOLE, OUT = tar(member("x.jpg")), "leads out"

SYMLINK, HARDLINK = tarfile.SYMTYPE, tarfile.LNKTYPE

ROWS = (
    _tar("no archive", b"no archive at all", "not a whole"),
    _tar("empty", b"", "not a whole"),
    _tar("truncated in a member", WHOLE[:513], "not a whole"),
    _tar("a damaged header", WHOLE[:100] + b"\xff" * 60 + WHOLE[160:], "not a whole"),
    _tar("half of a .gz", gzip.compress(WHOLE)[:40], "not a whole"),
    _tar("a member above", tar(member("../x.jpg")), "'../x.jpg'", OUT),
    _tar("a member at the root", tar(member("/etc/x.jpg")), "'/etc/x.jpg'", OUT),
    _tar("a member that climbs", tar(member("a/../../x.jpg")), OUT, meets=_listed),
    _tar("a member above, for boxes", tar(member("../x.jpg")), OUT, meets=_boxes),
    _tar("a symbolic link", tar(member("x.jpg", SYMLINK, "/etc/passwd")), "'x.jpg' is a link"),
    _tar("a hard link", tar(member("x.jpg", HARDLINK, "/etc/passwd")), "'x.jpg' is a link"),
    _tar(
        "a link to nothing, digested",
        tar(member("x.jpg", SYMLINK, "y")),
        "not a whole",
        meets=_digest,
    ),
    _tar("a device", tar(member("x.jpg", tarfile.CHRTYPE)), "no plain file"),
    _tar("an image that is none", WHOLE, "x.jpg is not a whole image", meets=_listed),
    _tar("an image that is not there", tar(member("y.jpg")), "'x.jpg', which a.csv", meets=_listed),
    _zip("no .zip", lambda: b"PK no zip", "not a whole .zip"),
    _zip("two texts in a .zip", lambda: zipped(a_json=b"[]", b_json=b"[]"), "one JSON file"),
    _zip("no JSON in a .zip", lambda: zipped(a_json=b"[1"), "one JSON file"),
    _zip("a damaged member", _broken_sum, "not a whole .zip"),
    _zip("an encrypted member", _encrypted, "not a whole .zip"),
)
