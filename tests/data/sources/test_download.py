"""One file from a server on the loopback address that truncates, dawdles, fails and resumes."""

import errno
import os
import time
from pathlib import Path

import pytest

from quantbench.data.sources.download import FetchFailed, Patience, download

QUICK = Patience(timeout=0.3, rate=4096, tries=2)  # a loopback server answers in milliseconds
TEXT = os.urandom(30_000)


def test_a_file_comes_whole_with_progress(server, tmp_path):
    server.pages["/a"] = TEXT
    seen = []
    path = download(
        server.url + "/a", tmp_path / "x" / "a", progress=lambda *args: seen.append(args)
    )
    assert path.read_bytes() == TEXT
    assert seen[-1] == (len(TEXT), len(TEXT), "a")
    assert download(server.url + "/a", path) == path
    assert len(server.asked) == 1  # what is there is not asked for again


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_goes_on_or_begins_anew(server, tmp_path, resumes):
    server.pages["/a"], server.resumes = TEXT, resumes
    (tmp_path / "a.part").write_bytes(TEXT[:1000] if resumes else b"something else")
    assert download(server.url + "/a", tmp_path / "a").read_bytes() == TEXT
    assert server.asked[0][1] == ("bytes=1000-" if resumes else "bytes=14-")


def test_a_server_that_hangs_up_is_asked_again_for_the_rest(server, tmp_path):
    server.pages["/a"], server.fault = TEXT, "truncate"
    patience = Patience(timeout=1, tries=30)  # each try brings half of what is left
    assert download(server.url + "/a", tmp_path / "a", patience=patience).read_bytes() == TEXT
    assert server.asked[1] == ("/a", "bytes=15000-")


def test_a_truncated_download_is_kept_for_the_next_try(server, tmp_path):
    server.pages["/a"], server.fault = TEXT, "truncate"
    with pytest.raises(
        FetchFailed, match=r"cut short at 22500 of 30000 bytes; 22500 bytes are kept"
    ):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert not (tmp_path / "a").exists()
    server.fault = ""
    assert download(server.url + "/a", tmp_path / "a", patience=QUICK).read_bytes() == TEXT


@pytest.mark.parametrize("fault", ["silent", "drip"])
def test_a_slow_server_times_out_with_a_clear_message(server, tmp_path, fault):
    server.pages["/a"], server.fault = TEXT, fault
    start = time.monotonic()
    with pytest.raises(FetchFailed, match=r"timed out.*run the same command again"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert time.monotonic() - start < 5  # two tries of 0.3 seconds, and room for a busy machine
    assert not (tmp_path / "a").exists()


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    server.pages["/a"] = TEXT
    (tmp_path / "a.part").write_bytes(TEXT + b"more")
    assert download(server.url + "/a", tmp_path / "a").read_bytes() == TEXT


def test_what_is_gone_is_not_asked_for_twice_but_a_busy_server_is(server, tmp_path):
    with pytest.raises(FetchFailed, match="404"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert len(server.asked) == 1
    server.pages["/a"], server.fault = TEXT, "busy"
    with pytest.raises(FetchFailed, match="failed 2 times, last: 503"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)


def test_an_unreachable_server_is_named(tmp_path, server):
    server.server_close()
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1.*refused"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)


def test_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch):
    server.pages["/a"] = TEXT
    real = Path.open

    def full(self, mode="r", **rest):
        file = real(self, mode, **rest)
        if "w" in mode:

            def write(block):
                type(file).write(file, block[:10])
                raise OSError(errno.ENOSPC, "No space left on device")

            return Shim(file, write)
        return file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(FetchFailed, match=r"the disk is full: .*nothing of it was left"):
        download(server.url + "/a", tmp_path / "a", patience=QUICK)
    assert list(tmp_path.iterdir()) == []


class Shim:
    """A file whose ``write`` is another function."""

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
