"""Packages to and from the Hugging Face hub, through ``huggingface_hub``."""

import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from flowpolicy.deploy.files import MANIFEST, PROGRAM, read_folder
from flowpolicy.deploy.package import read_package
from flowpolicy.errors import InvalidConfig, MissingData, MissingExtra

NEEDED = ("config.json", "model.safetensors", "README.md")


def upload(folder: str | Path, repo: str, *, private: bool = True) -> str:
    """Uploads a package to the repository ``owner/name``, which is made where there is none.

    A package that is not sound is not uploaded: ``CorruptFile`` or ``MissingData``. Returns the
    address of the commit. The token is the one that huggingface_hub finds.
    """
    hub, folder = _hub(), Path(folder)
    _check(repo)
    read_package(folder)
    names = [*read_folder(folder), MANIFEST]
    api = hub.HfApi()
    api.create_repo(repo, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo, folder_path=str(folder), allow_patterns=names))


def download(repo: str, folder: str | Path, *, revision: str | None = None) -> Path:
    """Downloads a package from ``owner/name`` into ``folder``, which must not exist yet.

    revision: a branch, a tag, or better a commit's hash, which always means the same files

    Only the files of a package are asked for; they are checked before the folder gets its name.
    """
    hub, folder = _hub(), Path(folder)
    _check(repo)
    if os.path.lexists(folder):
        raise InvalidConfig(f"{folder} exists already; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        for name in (MANIFEST, *NEEDED, PROGRAM):
            try:
                # Links into a cache: a copy is what stays when the cache is emptied.
                found = hub.hf_hub_download(repo, name, revision=revision)
            except hub.errors.EntryNotFoundError:
                if name == PROGRAM:
                    continue
                raise MissingData(f"{repo} has no {name}: it holds no package") from None
            shutil.copyfile(found, temporary / name)
        read_package(temporary)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


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
