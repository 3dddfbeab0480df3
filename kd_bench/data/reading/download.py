"""Downloads of published files: checked, under a lock, and either complete or not there."""

import hashlib
import http.client
import urllib.request
from pathlib import Path
from urllib.error import HTTPError, URLError

from kd_bench.config.files import rename_durably
from kd_bench.data.reading.archives import open_known
from kd_bench.data.reading.preparing import bar, exclusive
from kd_bench.errors import IntegrityError

CONNECT_SECONDS = 5.0
STALL_SECONDS = 30.0  # without a byte, once connected
_BLOCK = 1 << 20


def fetch(url: str, digest: str, target: Path, retry: str) -> None:
    """Download ``url`` to ``target``. A second process waits for the first and then finds the file.

    Args:
        digest: ``md5:...`` or ``sha256:...`` of the whole file, hexadecimal.
        retry: the command that tries again, for error messages.

    Raises:
        IntegrityError: there is no connection, the transfer breaks off or the checksum is another one. The partial
            file is deleted then, and nothing else.
    """
    with exclusive(target):
        if target.exists():
            check_digest(target, digest, f"{target}, which is there already")
            return
        partial = target.with_name(f".{target.name}.kd_bench.part")
        try:
            _transfer(url, partial)
            check_digest(partial, digest, url)
            rename_durably(partial, target)
        except IntegrityError as error:
            raise IntegrityError(f"{error}; nothing was kept, try again: {retry}") from error
        except (URLError, http.client.HTTPException, OSError) as error:
            reason = str(getattr(error, "reason", "") or error)
            if isinstance(error, HTTPError):  # which is the server's answer at the same time
                reason = f"{error.code} {reason}"
                error.close()
            raise IntegrityError(f"{url} cannot be fetched: {reason}; try again: {retry}") from error
        finally:
            partial.unlink(missing_ok=True)


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal ``md5`` or ``sha256`` of a file.

    Raises:
        IntegrityError: it cannot be read, or is no regular file or too large.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_known(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def bytes_digest(content: bytes, algorithm: str) -> str:
    """Return the hexadecimal ``md5`` or ``sha256`` of bytes."""
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def check_digest(path: Path, digest: str, name: str = "") -> None:
    """Compare a file with its published checksum.

    Args:
        name: names the file in the error message; its path if empty.

    Raises:
        IntegrityError: the checksum differs, or the file cannot be read.
    """
    algorithm, _, expected = digest.partition(":")
    actual = file_digest(path, algorithm)
    if actual != expected:
        raise IntegrityError(f"{name or path}: {algorithm} is {actual}, but {expected} was published")


def _transfer(url: str, partial: Path) -> None:
    opener = urllib.request.build_opener(_Http, _Https)
    with opener.open(url, timeout=CONNECT_SECONDS) as response, partial.open("wb") as file:
        announced = response.headers.get("Content-Length")
        total, received = int(announced) if announced and announced.isdigit() else None, 0
        with bar(url.rpartition("/")[2], total, "bytes") as advance:
            while block := response.read(_BLOCK):
                received += file.write(block)
                advance(len(block))
    if total is not None and received != total:
        raise IntegrityError(f"{url}: the transfer ended after {received} of {total} bytes")


class _HttpConnection(http.client.HTTPConnection):
    """A connection that is made within ``CONNECT_SECONDS``, then waits longer for each piece."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(STALL_SECONDS)


class _HttpsConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(STALL_SECONDS)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, request)
