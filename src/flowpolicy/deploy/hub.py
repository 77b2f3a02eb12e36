"""Packages to and from the Hugging Face hub, through ``huggingface_hub``."""

import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowpolicy.deploy.files import LIMITS, MANIFEST, read_folder, read_manifest
from flowpolicy.deploy.package import read_package
from flowpolicy.errors import FlowPolicyError, InvalidConfig, MissingData, MissingExtra


def upload(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Uploads a package to the repository ``owner/name``, which is made where there is none.

    A package that is not sound is not uploaded: ``CorruptFile`` or ``MissingData``. Returns the
    address of the commit. The token is the one that huggingface_hub finds. ``FlowPolicyError`` says
    what the hub says, where it refuses or is not reached.
    """
    hub, folder = _hub(), Path(folder)
    _check(repo)
    read_package(folder)
    names = [*read_folder(folder), MANIFEST]
    # Files of the package that was there before, which this one does not have.
    old = [name for name in LIMITS if name not in names]
    api = hub.HfApi()
    with _asking(hub, repo, "folder"):
        api.create_repo(repo, private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=repo, folder_path=str(folder), allow_patterns=names, delete_patterns=old
            )
        )


def download(repo: str, folder: str | Path, *, revision: str | None = None) -> Path:
    """Downloads a package from ``owner/name`` into ``folder``, which must not exist yet.

    revision: a branch, a tag, or better a commit's hash, which always means the same files

    Only the files of a package are asked for; they are checked before the folder gets its name.
    ``MissingData`` where it holds no package, and errors as those of ``upload``.
    """
    hub, folder = _hub(), Path(folder)
    _check(repo)
    if os.path.lexists(folder):
        raise InvalidConfig(f"{folder} exists already; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        inner = temporary / "package"
        inner.mkdir()  # the outer one is its owner's alone, whatever the umask
        _fetch(hub, repo, MANIFEST, revision, inner)
        for name in read_manifest(inner):
            _fetch(hub, repo, name, revision, inner)
        read_package(inner)
        os.replace(inner, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _fetch(hub: Any, repo: str, name: str, revision: str | None, folder: Path) -> None:
    with _asking(hub, repo, name):
        found = hub.hf_hub_download(repo, name, revision=revision)
    # Links into a cache: a copy is what stays when the cache is emptied.
    shutil.copyfile(found, folder / name)


@contextlib.contextmanager
def _asking(hub: Any, repo: str, name: str) -> Iterator[None]:
    """What ``hub`` raises while it is asked for ``name``, as errors of ours."""
    errors = hub.errors
    # The bases are the errors of the library below, which changed from version to version.
    others = (*errors.HfHubHTTPError.__bases__, errors.HFValidationError, OSError)
    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # in the cache, where the hub was to be asked
        raise FlowPolicyError(f"{repo}: the hub cannot be reached: {_line(error)}") from None
    except errors.EntryNotFoundError:
        raise MissingData(f"{repo} has no {name}: it holds no package") from None
    except others as error:
        raise FlowPolicyError(f"{repo}: the hub: {type(error).__name__}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _check(repo: str) -> None:
    owner, slash, name = repo.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise InvalidConfig(f"repo must be owner/name, as the hub has it, got {repo!r}")


def _hub() -> Any:
    try:
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise MissingExtra(
            "huggingface_hub is not installed; pip install 'flowpolicy[hub]'"
        ) from None
