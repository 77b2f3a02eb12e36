"""Downloads against a local server that cuts, lies and changes its files."""

import dataclasses
import hashlib
import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flowpolicy.data import transfer
from flowpolicy.data.download import download, read_sums
from flowpolicy.data.npz import write_npz
from flowpolicy.data.ogbench import load
from flowpolicy.data.transfer import DownloadFailed, fetch
from flowpolicy.errors import Busy, CorruptFile, InvalidConfig, MissingData, StorageFailed

BODY = np.random.default_rng(0).bytes(200_000)


@dataclasses.dataclass
class Server:
    """What it serves and how badly. ``cuts``: bytes after which the next connections break."""

    files: dict[str, bytes]
    cuts: list[int] = dataclasses.field(default_factory=list)
    announced: int | None = None
    version: str = '"one"'
    ignores_ranges: bool = False
    ignores_versions: bool = False
    statuses: list[int] = dataclasses.field(default_factory=list)
    asked: list[str | None] = dataclasses.field(default_factory=list)
    url: str = ""


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.asked.append(wanted)
            if server.statuses:
                self.send_error(server.statuses.pop(0))
                return
            if self.path not in server.files:
                self.send_error(404)
                return
            body = server.files[self.path]
            start = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
            same = server.ignores_versions or self.headers.get("If-Range") == server.version
            part = bool(wanted) and same and not server.ignores_ranges
            if part and start >= len(body):
                self.send_error(416)
                return
            sent = body[start:] if part else body
            self.send_response(206 if part else 200)
            if part:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if server.version:
                self.send_header("ETag", server.version)
            length = len(sent) if server.announced is None else server.announced
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(sent[: server.cuts.pop(0)] if server.cuts else sent)

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server({"/file.npz": BODY})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(told)) as listening:
        told.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield told
        listening.shutdown()
        thread.join()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.npz"


def _fetch(server: Server, out: Path, **more: object) -> transfer.Arrived:
    return fetch(f"{server.url}/file.npz", out, wait=lambda _: None, **more)  # pyright: ignore


def _only(out: Path) -> bool:
    return os.listdir(out.parent) == [out.name] and out.read_bytes() == BODY


def test_a_file_arrives_whole(server: Server, out: Path):
    """With its sum, its size, and nothing beside it; a second time nothing is asked for."""
    seen: list[tuple[int, int]] = []
    arrived = _fetch(server, out, progress=lambda done, size: seen.append((done, size)))
    assert arrived == (hashlib.sha256(BODY).hexdigest(), len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert _only(out)
    assert _fetch(server, out, promised=arrived.sha256) == arrived
    assert server.asked == [None]


def test_a_cut_connection_goes_on_where_it_was(server: Server, out: Path):
    """Twice cut, no byte is sent twice."""
    server.cuts = [70_000, 50_000]
    _fetch(server, out)
    assert server.asked == [None, "bytes=70000-", "bytes=120000-"]
    assert _only(out)


def test_another_process_goes_on(server: Server, out: Path):
    """After the first one gave up; what it had stays under another name."""
    server.cuts = [70_000] + [0] * transfer.TRIES
    with pytest.raises(DownloadFailed, match="the same command goes on"):
        _fetch(server, out)
    assert not out.exists()
    assert (out.parent / ".file.npz.part").stat().st_size == 70_000
    server.asked.clear()
    _fetch(server, out)
    assert server.asked == ["bytes=70000-"]
    assert _only(out)


def test_a_kill_before_the_last_rename(server: Server, out: Path):
    """All bytes are there already: none is asked for."""
    server.cuts = [70_000] + [0] * transfer.TRIES
    with pytest.raises(DownloadFailed):
        _fetch(server, out)
    (out.parent / ".file.npz.part").write_bytes(BODY)
    server.asked.clear()
    _fetch(server, out)
    assert server.asked == []
    assert _only(out)


@pytest.mark.parametrize("how", ["other version", "no version", "no ranges", "other and lies"])
def test_what_may_not_be_joined_begins_anew(server: Server, out: Path, how: str):
    """Another version of the file, one nobody names, or a server that knows no ranges."""
    server.version = "" if how == "no version" else '"one"'
    server.cuts = [70_000] + [0] * transfer.TRIES
    if how == "no version":
        server.cuts = [70_000] * (transfer.TRIES + 1)
    server.files["/file.npz"] = bytes(len(BODY))
    with pytest.raises(DownloadFailed):
        _fetch(server, out)
    server.files["/file.npz"] = BODY
    server.ignores_ranges = how == "no ranges"
    server.ignores_versions = how == "other and lies"
    if "other" in how:
        server.version = '"two"'
    _fetch(server, out)
    assert _only(out) if how != "no ranges" else out.read_bytes() == BODY


def test_a_file_that_shrank_on_the_server(server: Server, out: Path):
    """The rest that is asked for is not there: from the beginning."""
    server.cuts = [150_000] + [0] * transfer.TRIES
    with pytest.raises(DownloadFailed):
        _fetch(server, out)
    server.files["/file.npz"] = BODY[:100_000]
    _fetch(server, out)
    assert out.read_bytes() == BODY[:100_000]


@pytest.mark.parametrize("announced", [len(BODY) + 10, len(BODY) - 10])
def test_a_wrong_length_is_no_file(server: Server, out: Path, announced: int):
    """More than comes counts as cut again and again; of fewer only so many are read."""
    server.announced = announced
    server.version = ""
    if announced > len(BODY):
        with pytest.raises(DownloadFailed, match="cut"):
            _fetch(server, out)
        assert not out.exists()
    else:
        with pytest.raises(CorruptFile):
            _fetch(server, out, promised=hashlib.sha256(BODY).hexdigest())


def test_a_wrong_sum_is_no_file(server: Server, out: Path):
    """Nothing of it stays, so that the next try begins anew."""
    with pytest.raises(CorruptFile, match=r"its SHA-256 is .* and 0000.* was promised"):
        _fetch(server, out, promised="0" * 64)
    assert os.listdir(out.parent) == []
    _fetch(server, out)
    with pytest.raises(CorruptFile, match="was promised"):
        _fetch(server, out, promised="0" * 64)
    assert _only(out)  # a file of the user's is not deleted


def test_refusals(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch):
    """By the server once and for all, for a while, by the disk, by another process."""
    with pytest.raises(MissingData, match="no such file"):
        fetch(f"{server.url}/none.npz", out)
    server.statuses = [503, 429, 502, 504]
    waits: list[float] = []
    fetch(f"{server.url}/file.npz", out, wait=waits.append)
    assert waits == [2.0, 4.0, 8.0, 16.0]
    out.unlink()
    server.statuses = [403]
    with pytest.raises(DownloadFailed, match="Forbidden"):
        _fetch(server, out)
    with transfer._alone(out.with_name(".file.npz.part")), pytest.raises(Busy, match="another"):
        _fetch(server, out)
    with pytest.raises(InvalidConfig, match="http"):
        fetch("ftp://127.0.0.1/file.npz", out)
    usage = transfer.shutil.disk_usage(out.parent)._replace(free=1000)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageFailed, match="1,000 bytes free, and 200,000 are to come"):
        _fetch(server, out)


def _npz(folder: Path, seed: int) -> bytes:
    rows = np.random.default_rng(seed).uniform(-1, 1, (40, 2)).astype(np.float32)
    ends = np.arange(40) % 20 == 19
    path = folder / "made.npz"
    names = ("observations", "actions", "qpos")
    write_npz(path, {**dict.fromkeys(names, rows), "terminals": ends})
    return path.read_bytes()


def test_a_data_set_by_its_name(server: Server, tmp_path: Path):
    """Both of its files, and a record with which a changed file is found out later."""
    name = "pointmaze-medium-navigate-v0"
    server.files = {
        f"/{name}.npz": _npz(tmp_path, 0),
        f"/{name}-val.npz": _npz(tmp_path, 1),
    }
    out = tmp_path / "sets" / f"{name}.npz"
    files = download("pointmaze-medium", out, server=server.url + "/")
    assert {path.name for path in files} == {f"{name}.npz", f"{name}-val.npz"}
    info = load(out, "pointmaze-medium-task1").info
    assert info["collected"]["url"] == f"{server.url}/{name}.npz"
    out.write_bytes(_npz(tmp_path, 2))
    with pytest.raises(CorruptFile, match="not the file"):
        load(out, "pointmaze-medium-task1")


@pytest.fixture
def navigate(server: Server, tmp_path: Path) -> Path:
    """A set that the server has, as it was downloaded."""
    name = "pointmaze-medium-navigate-v0"
    for seed, end in enumerate(("", "-val")):
        server.files[f"/{name}{end}.npz"] = _npz(tmp_path, seed)
    out = tmp_path / "sets" / f"{name}.npz"
    download("pointmaze-medium", out, server=server.url)
    return out


def test_a_file_that_is_fetched_again_has_its_own_record(
    server: Server, navigate: Path, tmp_path: Path
):
    """The server's file changed meanwhile; the record of the old one does not stay."""
    navigate.unlink()
    server.files[f"/{navigate.name}"] = _npz(tmp_path, 7)
    download("pointmaze-medium", navigate, server=server.url)
    load(navigate, "pointmaze-medium-task1")
    told = json.loads(navigate.with_suffix(".json").read_text())["files"][navigate.name]
    assert told["sha256"] == hashlib.sha256(_npz(tmp_path, 7)).hexdigest()


def test_a_file_that_was_changed_is_not_called_downloaded(server: Server, navigate: Path):
    """It stays, and the message says what to do."""
    content = bytearray(navigate.read_bytes())
    content[len(content) // 2] ^= 1
    navigate.write_bytes(content)
    with pytest.raises(CorruptFile, match="delete the file to fetch it again"):
        download("pointmaze-medium", navigate, server=server.url)
    assert navigate.read_bytes() == content
    navigate.unlink()
    download("pointmaze-medium", navigate, server=server.url)
    load(navigate, "pointmaze-medium-task1")


def test_a_json_of_somebody_else_is_not_replaced(server: Server, navigate: Path):
    navigate.unlink()
    navigate.with_suffix(".json").write_text('{"mine": 1}')
    download("pointmaze-medium", navigate, server=server.url)
    assert navigate.with_suffix(".json").read_text() == '{"mine": 1}'


def test_a_set_of_many_files(server: Server, tmp_path: Path):
    """All that the server's page lists, each with its record; a list of sums is compared."""
    folder = "/cube-octuple-play-100m-v0/"
    names = [f"cube-octuple-play-v0-{i:03}{end}.npz" for i in range(100) for end in ("", "-val")]
    small = _npz(tmp_path, 0)
    server.files = {folder + name: small for name in names}
    links = "".join(f'<a href="{name}">{name}</a>' for name in names)
    server.files[folder] = f'<a href="../up.npz">{links}<a href="readme.txt">'.encode()
    out = tmp_path / "octuple"
    listed = tmp_path / "SHA256SUMS"
    total = hashlib.sha256(small).hexdigest()
    listed.write_text(f"{total}  ./{names[0]}\n{'0' * 64} *{names[2]}\n")
    with pytest.raises(CorruptFile, match="was promised"):
        download("cube-octuple-play-100m", out, server=server.url, sums=read_sums(listed))
    files = download("cube-octuple-play-100m", out, server=server.url)
    assert [path.name for path in files] == sorted(names)
    record = json.loads((out / "cube-octuple-play-v0-007.json").read_text())
    assert record["files"]["cube-octuple-play-v0-007.npz"]["sha256"] == total
    server.files[folder] = b"nothing here"
    with pytest.raises(DownloadFailed, match=r"lists 0 training files, and .* has 100"):
        download("cube-octuple-play-100m", tmp_path / "other", server=server.url)


def test_names_places_and_lists(tmp_path: Path):
    """What is on no server, a file where a folder belongs, a list that is none."""
    with pytest.raises(InvalidConfig, match="flowpolicy data collect"):
        download("cube-octuple-noisy", tmp_path / "x.npz")
    with pytest.raises(InvalidConfig, match=r"a file that ends in \.npz"):
        download("cube-single", tmp_path / "x")
    with pytest.raises(InvalidConfig, match="out must be a folder"):
        download("cube-octuple-play-100m", tmp_path / "x.npz")
    wrong = tmp_path / "sums"
    wrong.write_text("abc file\n")
    with pytest.raises(CorruptFile, match="line 1"):
        read_sums(wrong)
