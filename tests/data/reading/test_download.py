"""Downloads from a server on this machine: complete and checked, or not there."""

import contextlib
import hashlib
import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from filelock import FileLock

from kd_bench.data.reading import download
from kd_bench.data.reading.download import fetch

CONTENT = bytes(range(256)) * 5000
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
RETRY = "kd-bench train dataset=x dataset.source.download=true"


class Handler(http.server.BaseHTTPRequestHandler):
    """``/good``, ``/short`` (ends too early), ``/wrong`` (other bytes), ``/slow``, ``/moved``; 404 for the rest."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return
        if self.path not in ("/good", "/short", "/wrong", "/slow", "/stalled"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path in ("/slow", "/stalled"):
            time.sleep(1)
        body = {"/short": CONTENT[:700_000], "/wrong": CONTENT[::-1]}.get(self.path, CONTENT)
        with contextlib.suppress(ConnectionError):  # who asked has left
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """Address of a server and the paths it was asked for."""
    requests: list[str] = []
    handler = type("Recording", (Handler,), {"requests": requests})
    with Server(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}", requests
        served.shutdown()
        thread.join()


def left(folder) -> list[str]:
    """What is in a folder but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("digest", [MD5, SHA256])
@pytest.mark.parametrize("path", ["good", "moved"])
def test_a_file_arrives(server, tmp_path, digest, path):
    target = tmp_path / "data" / "file.bin"
    fetch(f"{server[0]}/{path}", digest, target, RETRY)
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["file.bin"]


@pytest.mark.parametrize(
    ("path", "reasons"),
    [
        ("short", ["the transfer ended after 700000 of 1280000 bytes"]),
        ("wrong", ["md5 is 0", f"but {MD5[4:]} was published"]),
        ("none", ["404"]),
    ],
)
def test_a_broken_transfer_leaves_nothing_behind(server, tmp_path, refused, path, reasons):
    (tmp_path / "file.bin.part").write_bytes(b"somebody else's")
    if path == "wrong":
        reasons = [f"md5 is {hashlib.md5(CONTENT[::-1], usedforsecurity=False).hexdigest()}", *reasons[1:]]
    with refused(f"{server[0]}/{path}", *reasons, f"try again: {RETRY}"):
        fetch(f"{server[0]}/{path}", MD5, tmp_path / "file.bin", RETRY)
    assert left(tmp_path) == ["file.bin.part"]
    fetch(f"{server[0]}/good", MD5, tmp_path / "file.bin", RETRY)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_nobody_listening_is_told_at_once(tmp_path, refused):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
        started = time.monotonic()
        with refused(f"{url} cannot be fetched: ", "refused", f"try again: {RETRY}"):
            fetch(url, MD5, tmp_path / "file.bin", RETRY)
    assert time.monotonic() - started < 5
    assert left(tmp_path) == []


def test_a_server_that_says_nothing_is_not_waited_for(server, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(download, "STALL_SECONDS", 0.2)
    with refused("/stalled cannot be fetched: ", "timed out"):
        fetch(f"{server[0]}/stalled", MD5, tmp_path / "file.bin", RETRY)
    assert left(tmp_path) == []


def test_an_unresponsive_address_is_given_up(tmp_path, refused, monkeypatch):
    """A socket whose queue of waiting connections is full answers nothing."""
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        with refused("cannot be fetched: ", "timed out"):
            fetch(f"http://127.0.0.1:{address[1]}/file", MD5, tmp_path / "file.bin", RETRY)
        for each in waiting:
            each.close()


def test_a_file_that_is_there_is_kept_and_checked(server, tmp_path, refused):
    target = tmp_path / "file.bin"
    target.write_bytes(CONTENT)
    fetch(f"{server[0]}/good", SHA256, target, RETRY)
    target.write_bytes(b"other")
    with refused(f"{target}, which is there already: sha256 is "):
        fetch(f"{server[0]}/good", SHA256, target, RETRY)
    assert target.read_bytes() == b"other"
    assert server[1] == []


def test_what_a_kill_left_is_no_obstacle(server, tmp_path):
    (tmp_path / ".file.bin.kd_bench.part").write_bytes(b"half")
    fetch(f"{server[0]}/good", MD5, tmp_path / "file.bin", RETRY)
    assert left(tmp_path) == ["file.bin"]


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path, refused):
    (tmp_path / "file").write_bytes(b"")
    with refused(str(tmp_path / "file"), "cannot be written"):
        fetch(f"{server[0]}/good", MD5, tmp_path / "file" / "file.bin", RETRY)


FETCH = """
import sys
from pathlib import Path
from kd_bench.data.reading.download import fetch
fetch(*sys.argv[1:3], Path(sys.argv[3]), "retry")
"""


def test_two_processes_fetch_once(server, tmp_path):
    url, requests = server
    target = tmp_path / "file.bin"
    command = [sys.executable, "-c", FETCH, f"{url}/slow", MD5, str(target)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert requests == ["/slow"]
    assert target.read_bytes() == CONTENT


def test_who_waits_says_so(server, tmp_path, capsys):
    target = tmp_path / "file.bin"
    lock = FileLock(tmp_path / ".file.bin.lock")
    lock.acquire()
    thread = threading.Thread(target=fetch, args=(f"{server[0]}/good", MD5, target, RETRY))
    thread.start()
    time.sleep(0.3)
    assert not target.exists()
    lock.release()
    thread.join()
    assert target.exists()
    assert capsys.readouterr().err == f"another process prepares {target}; waiting for it\n"
