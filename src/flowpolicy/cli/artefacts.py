"""``flowpolicy package``, ``upload`` and ``download``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from flowpolicy import parts
from flowpolicy.deploy import hub
from flowpolicy.packaging import write


@dataclasses.dataclass(frozen=True)
class PackageOptions:
    """Writes a run's policy as a folder that can be checked, published and run without JAX."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    out: Path | None = None
    """A folder that does not exist yet; package in the run's folder if not given."""
    refiner: Annotated[str, tyro.conf.arg(metavar="PART")] = ""
    """Acts in the place of the agent's own: one_step, 'best_of_n(n=8)', 'qgbs(beam=4)'."""
    seed_index: int = 0
    """Which of the run's seeds, from 0."""
    licence: str = ""
    """The hub's identifier of a licence, as in mit; none is stated if not given."""
    numpy: bool = True
    """Whether the program is in it that runs without JAX."""
    best: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Package the state whose evaluation within the run was the best, and not the newest."""


def package(arguments: list[str]) -> int:
    """Prints where the package is."""
    options = tyro.cli(PackageOptions, args=arguments, prog="flowpolicy package")
    folder = write.package(
        options.run,
        options.out,
        refiner=parts.parse(options.refiner) if options.refiner else None,
        seed_index=options.seed_index,
        licence=options.licence,
        numpy=options.numpy,
        best=options.best,
    )
    print(folder)
    if options.numpy:
        print(f"flowpolicy.Policy.load({str(folder)!r}, backend='numpy') runs it without JAX")
    return 0


@dataclasses.dataclass(frozen=True)
class UploadOptions:
    """Uploads a package to the Hugging Face hub, with the token that huggingface_hub finds."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The package."""
    repo: Annotated[str, tyro.conf.Positional]
    """owner/name; made if there is none."""
    private: bool = True
    """Whether a repository that is made can be seen by its owner alone."""


def upload(arguments: list[str]) -> int:
    """Prints the address of the commit."""
    options = tyro.cli(UploadOptions, args=arguments, prog="flowpolicy upload")
    print(hub.upload(options.folder, options.repo, private=options.private))
    return 0


@dataclasses.dataclass(frozen=True)
class DownloadOptions:
    """Downloads a package from the Hugging Face hub and checks it."""

    repo: Annotated[str, tyro.conf.Positional]
    """owner/name."""
    folder: Annotated[Path, tyro.conf.Positional]
    """A folder that does not exist yet."""
    revision: str | None = None
    """A branch, a tag, or better a commit's hash, which always means the same files."""


def download(arguments: list[str]) -> int:
    """Prints where the package is."""
    options = tyro.cli(DownloadOptions, args=arguments, prog="flowpolicy download")
    print(hub.download(options.repo, options.folder, revision=options.revision))
    return 0
