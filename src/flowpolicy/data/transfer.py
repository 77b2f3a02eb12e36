"""One file over HTTP: what was interrupted goes on, and nothing wrong gets its final name.

Bytes are collected in ``.NAME.part``, and ``.NAME.part.json`` says of which version of which file
they are. A server goes on with them (a range request) only if it still has that version; else the
file is begun anew.
"""

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from flowpolicy.data.npz import sha256
from flowpolicy.data.storage import storing
from flowpolicy.errors import (
    Busy,
    CorruptFile,
    FlowPolicyError,
    InvalidConfig,
    MissingData,
    StorageFailed,
)
from flowpolicy.readers import Limits, read_object

BLOCK = 2**20
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as cut."""
TRIES = 5
"""Connections in a row that may bring nothing new."""

_PASSING = (408, 429, 500, 502, 503, 504)
"""Statuses of a server, or of one before it, that may answer otherwise a little later."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole file."""


class DownloadFailed(FlowPolicyError, OSError):
    """A file did not arrive; the message says why. What did arrive is kept for the next time."""


class Arrived(NamedTuple):
    """A file that is there: its SHA-256 in hexadecimal, and its size."""

    sha256: str
    bytes: int


class _Reply(NamedTuple):
    """The head of an answer: where its bytes belong, how many the whole file has, which version."""

    start: int
    size: int
    version: str


def fetch(
    url: str,
    out: Path,
    *,
    promised: str = "",
    progress: Progress | None = None,
    wait: Callable[[float], None] = time.sleep,
    limits: Limits = Limits(),
) -> Arrived:
    """Brings the file at ``url`` (http or https) to ``out``, which appears whole or not at all.

    promised: its SHA-256, where it is known; a file that has another one is deleted
    wait:     called with the seconds to wait before the next try

    An ``out`` that is there already is only compared with ``promised``. Raises ``MissingData``
    where the server has no such file, ``DownloadFailed`` where it does not send it, ``CorruptFile``
    for a wrong sum, ``StorageFailed`` where the disk is too small, ``Busy`` where another process
    is at it.
    """
    if not re.match(r"https?://", url):
        raise InvalidConfig(f"url must begin with http:// or https://, got {url!r}")
    if out.exists():
        return _compared(out, out, url, promised)
    with storing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    with _alone(part) as file:
        if out.exists():  # another process has just finished it
            return _compared(out, out, url, promised)
        _collect(url, part, file, progress, wait, limits)
        with storing(out):
            file.flush()
            os.fsync(file.fileno())
        arrived = _compared(part, out, url, promised)
        with storing(out):
            os.replace(part, out)
            _about(part).unlink(missing_ok=True)
    return arrived


def read_page(url: str, most: int = 4 * 2**20) -> str:
    """The text at ``url``, of at most ``most`` bytes; raises as ``fetch`` does."""
    try:
        with _open(url, {}) as response:
            data = response.read(most + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(url, error) from None
    if len(data) > most:
        raise DownloadFailed(f"{url} has more than {most:,} bytes")
    return data.decode("utf-8", errors="replace")


def _collect(
    url: str,
    part: Path,
    file: IO[bytes],
    progress: Progress | None,
    wait: Callable[[float], None],
    limits: Limits,
) -> None:
    """Connects until all bytes are in ``file``."""
    idle = 0
    while True:
        before = file.seek(0, os.SEEK_END)
        error: Exception | None = None
        try:
            if _receive(url, part, file, progress, limits):
                return
        except (OSError, http.client.HTTPException) as caught:
            if isinstance(caught, FlowPolicyError):
                raise
            error = caught
        idle = 0 if file.seek(0, os.SEEK_END) > before else idle + 1
        final = isinstance(error, urllib.error.HTTPError) and error.code not in _PASSING
        if idle >= TRIES or final:
            raise _failure(url, error or ConnectionError("the connection was cut"))
        wait(min(2.0**idle, 30.0))


def _receive(
    url: str, part: Path, file: IO[bytes], progress: Progress | None, limits: Limits
) -> bool:
    """One connection; whether the file is whole then."""
    have, known = file.seek(0, os.SEEK_END), _known(part, url)
    if have and have == known.size:
        return True
    if have and not known.version:
        have = _emptied(file)
    headers = {"Range": f"bytes={have}-", "If-Range": known.version} if have else {}
    try:
        response = _open(url, headers)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        _emptied(file)  # there is nothing behind what we have, though it is not the whole file
        return False
    with response:
        reply = _head(url, response)
        if reply.start not in (0, have) or reply.size > limits.npz_bytes:
            raise DownloadFailed(f"{url}: the server answered with {reply}, wanted from {have}")
        if reply.start and reply != _Reply(have, known.size, reply.version and known.version):
            _emptied(file)  # it ignored that we asked for the version we have
            return False
        _room(part, reply.size - reply.start)
        if reply.start == 0:
            _emptied(file)
            _remember(part, url, reply)
        while block := response.read(BLOCK):
            if file.tell() + len(block) > reply.size:
                raise DownloadFailed(f"{url}: more bytes came than the {reply.size:,} announced")
            with storing(part):
                file.write(block)
                file.flush()
            if progress is not None:
                progress(file.tell(), reply.size)
        return file.tell() == reply.size


def _emptied(file: IO[bytes]) -> int:
    file.seek(0)
    return file.truncate()


def _open(url: str, headers: dict[str, str]) -> Any:
    # Unlike the usual opener this one reads no local file, nor ftp, also after a redirection.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", **headers})
    response = opener.open(request, timeout=TIMEOUT)
    if response is None:
        raise DownloadFailed(f"{url}: redirected to something that is not http")
    return response


def _head(url: str, response: Any) -> _Reply:
    told = response.headers
    version = told.get("ETag") or ""
    if not version or version.startswith("W/"):  # a weak one does not promise the same bytes
        version = told.get("Last-Modified") or ""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", told.get("Content-Range") or "")
        if found is None:
            raise DownloadFailed(f"{url}: a part without the range that it is")
        return _Reply(int(found[1]), int(found[2]), version)
    length = told.get("Content-Length") or ""
    if response.status != 200 or not length.isdigit():
        raise DownloadFailed(f"{url}: status {response.status}, and the size is {length or None}")
    return _Reply(0, int(length), version)


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _known(part: Path, url: str) -> _Reply:
    """What ``part`` holds the first bytes of; without a version where nobody knows."""
    try:
        about = read_object(_about(part))
    except (MissingData, CorruptFile):
        return _Reply(0, 0, "")
    size, version = about.get("bytes"), about.get("version")
    if about.get("url") != url or type(size) is not int or not isinstance(version, str):
        return _Reply(0, 0, "")
    return _Reply(0, size, version)


def _remember(part: Path, url: str, reply: _Reply) -> None:
    temporary = part.with_name(f"{part.name}.json.tmp")
    with storing(part):
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"url": url, "version": reply.version, "bytes": reply.size}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, _about(part))


def _compared(path: Path, out: Path, url: str, promised: str) -> Arrived:
    found = sha256(path)
    if promised and found != promised.lower():
        if path != out:
            path.unlink()
            _about(path).unlink(missing_ok=True)
        raise CorruptFile(f"{out}: its SHA-256 is {found}, and {promised} was promised ({url})")
    return Arrived(found, path.stat().st_size)


def _failure(url: str, error: Exception) -> FlowPolicyError:
    if isinstance(error, FlowPolicyError):
        return error
    if isinstance(error, urllib.error.HTTPError) and error.code in (404, 410):
        return MissingData(f"{url}: the server has no such file")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return DownloadFailed(f"{url} could not be fetched: {reason}; the same command goes on with it")


def _room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise StorageFailed(f"{part.parent} has {free:,} bytes free, and {needed:,} are to come")


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """``part``, opened to be appended to, which no other process does meanwhile."""
    with storing(part):
        file = open(part, "ab+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"{part}: another process is fetching it") from None
        yield file
