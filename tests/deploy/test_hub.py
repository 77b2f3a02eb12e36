"""Up to the hub and down again, with a folder in the place of the hub."""

import os
import shutil
import stat
import sys
import types

import pytest

import flowpolicy as fp
from flowpolicy.cli import main
from flowpolicy.deploy import hub
from flowpolicy.errors import (
    CorruptFile,
    FlowPolicyError,
    InvalidConfig,
    MissingData,
    MissingExtra,
)


class Below(Exception):
    """An error of the library that the hub's client asks with, such as a refused connection."""


class HfHubHTTPError(Below, OSError):
    """The hub answered with an error."""


class RepositoryNotFoundError(HfHubHTTPError):
    """No such repository, or none that may be seen."""


class HFValidationError(ValueError):
    """A name that cannot be one."""


class EntryNotFoundError(Exception):
    """A file that a repository does not have."""


class LocalEntryNotFoundError(EntryNotFoundError, FileNotFoundError):
    """The hub was not reached, and the file is not in the cache."""


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """The hub: repositories are folders in here."""
    root = tmp_path / "hub"
    calls = []

    class HfApi:
        def create_repo(self, repo, *, private, exist_ok):
            calls.append(("create", repo, private, exist_ok))
            (root / repo).mkdir(parents=True, exist_ok=True)
            (root / repo / ".gitattributes").write_text("made by the hub")

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, delete_patterns):
            for name in delete_patterns:
                (root / repo_id / name).unlink(missing_ok=True)
            for name in allow_patterns:
                shutil.copy(f"{folder_path}/{name}", root / repo_id / name)
            return f"commit of {repo_id}"

    def hf_hub_download(repo, name, revision=None):
        calls.append(("get", name, revision))
        if not (root / repo / name).exists():
            raise EntryNotFoundError
        cache = tmp_path / "cache"
        cache.mkdir(exist_ok=True)
        link = cache / f"{len(calls)}-{name}"
        link.symlink_to(root / repo / name)  # as the hub's own cache has it
        return str(link)

    kinds = (HfHubHTTPError, HFValidationError, EntryNotFoundError, LocalEntryNotFoundError)
    errors = types.SimpleNamespace(**{kind.__name__: kind for kind in kinds})
    module = types.SimpleNamespace(HfApi=HfApi, hf_hub_download=hf_hub_download, errors=errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return root, calls


def test_a_package_comes_back_as_it_went(packaged, remote, tmp_path, capsys):
    """The same files, private unless asked otherwise, at the revision that is asked for."""
    root, calls = remote
    assert main(["upload", str(packaged), "me/policy"]) == 0
    assert "commit of me/policy" in capsys.readouterr().out
    assert calls == [("create", "me/policy", True, True)]
    folder = hub.download("me/policy", tmp_path / "got", revision="abc")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in packaged.iterdir()
    }
    assert not any(p.is_symlink() for p in folder.iterdir())
    assert {call[2] for call in calls[1:]} == {"abc"}
    assert main(["download", "me/policy", str(tmp_path / "again")]) == 0
    assert (root / "me/policy/.gitattributes").exists()


def test_what_is_not_sound_goes_neither_way(packaged, remote, tmp_path):
    """And leaves nothing behind."""
    root, calls = remote
    bad = shutil.copytree(packaged, tmp_path / "bad")
    (bad / "README.md").write_text("better than it was")
    with pytest.raises(CorruptFile, match=r"README\.md was changed"):
        hub.upload(bad, "me/policy")
    assert calls == []
    hub.upload(packaged, "me/policy")
    (root / "me/policy/README.md").write_text("better than it was")
    with pytest.raises(CorruptFile, match=r"README\.md was changed"):
        hub.download("me/policy", tmp_path / "got")
    (root / "me/policy/config.json").unlink()
    with pytest.raises(MissingData, match=r"no config\.json"):
        hub.download("me/policy", tmp_path / "got")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "cache", "hub"]


def test_what_is_asked_wrongly_is_said(packaged, remote, tmp_path, monkeypatch):
    """Names of repositories, folders that exist, and an extra that is not installed."""
    for repo in ("policy", "a/b/c", "/x", "x/"):
        with pytest.raises(InvalidConfig, match="owner/name"):
            hub.upload(packaged, repo)
    with pytest.raises(InvalidConfig, match="exists already"):
        hub.download("me/policy", tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(MissingExtra, match=r"flowpolicy\[hub\]"):
        hub.upload(packaged, "me/policy")


@pytest.mark.parametrize("stale", [False, True])
def test_a_package_takes_the_place_of_one_with_more_files(
    trained, packaged, remote, tmp_path, stale
):
    """A program that was there before is of another policy; where it stayed it is not asked for."""
    root, _ = remote
    hub.upload(packaged, "me/policy")
    before = (root / "me/policy/program.json").read_bytes()
    hub.upload(fp.package(trained, tmp_path / "jax", numpy=False), "me/policy")
    assert not (root / "me/policy/program.json").exists()
    if stale:
        (root / "me/policy/program.json").write_bytes(before)
    folder = hub.download("me/policy", tmp_path / "got")
    assert {p.name for p in folder.iterdir()} == {p.name for p in (tmp_path / "jax").iterdir()}


def test_who_may_read_a_folder_may_read_what_was_downloaded(packaged, remote, tmp_path):
    """As the umask has it."""
    hub.upload(packaged, "me/policy")
    before = os.umask(0o027)
    try:
        folder = hub.download("me/policy", tmp_path / "got")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalEntryNotFoundError("no\nnetwork"), "the hub cannot be reached: no network"),
        (RepositoryNotFoundError("404"), "me/policy: the hub: RepositoryNotFoundError: 404"),
        (HfHubHTTPError("403"), "HfHubHTTPError: 403"),
        (HFValidationError("-- in a name"), "HFValidationError: -- in a name"),
        (Below("connection refused"), "Below: connection refused"),
        (TimeoutError("too long"), "TimeoutError: too long"),
    ],
)
def test_what_the_hub_says_is_passed_on(packaged, remote, tmp_path, monkeypatch, error, words):
    """In both directions, as an error of ours; it is not said that a repository has no package."""
    module = sys.modules["huggingface_hub"]

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module.HfApi, "create_repo", fail)
    monkeypatch.setattr(module, "hf_hub_download", fail)
    for call in (lambda: hub.upload(packaged, "me/policy"),
                 lambda: hub.download("me/policy", tmp_path / "got")):  # fmt: skip
        with pytest.raises(FlowPolicyError, match=words) as told:
            call()
        assert not isinstance(told.value, MissingData)
    assert not (tmp_path / "got").exists()
