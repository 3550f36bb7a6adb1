"""Settings of the suite (quick, repeatable property tests on one thread), and shared fixtures."""

import http.server
import threading
import time

import pytest
import torch
from hypothesis import settings

from quantbench.data import roots

settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("suite")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """The slowest first: begun last, one of them would keep a processor waiting for minutes."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data root with its own cache, away from any clone; the folder above is current."""
    monkeypatch.setenv("QUANTBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(roots, "clone_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


class Server(http.server.ThreadingHTTPServer):
    """Serves ``pages``; ``fault`` names a misbehaviour, ``asked`` lists (path, Range header)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked, self.fault, self.resumes = {}, [], "", True
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Clients that hang up are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        span = self.headers.get("Range")
        self.server.asked.append((self.path, span))
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        if self.server.fault == "busy":
            self.send_error(503)
            return
        start = int(span[6:-1]) if span and self.server.resumes else 0
        if start >= len(page) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(page) - start))
        self.end_headers()
        if self.server.fault == "silent":
            time.sleep(1)
        elif self.server.fault == "drip":
            for i in range(start, len(page)):
                self.wfile.write(page[i : i + 1])
                self.wfile.flush()
                time.sleep(0.01)
        else:
            half = self.server.fault == "truncate"
            self.wfile.write(page[start : (start + len(page) + 1) // 2 if half else None])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()
