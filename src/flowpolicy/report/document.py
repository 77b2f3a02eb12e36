"""What every HTML file of ours is made of: pictures inside, a template, one atomic write."""

import base64
import contextlib
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from flowpolicy.errors import InvalidConfig
from flowpolicy.train import durable, place


class Picture(NamedTuple):
    """An image as a data address, with the words that stand for it."""

    source: str
    alt: str


def render(template: str, **values: Any) -> str:
    """A template of this folder, filled in; values are escaped, unknown names are errors."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def svg_picture(image: bytes, alt: str) -> Picture:
    """An SVG image, embedded."""
    return Picture(data_address("image/svg+xml", image), alt)


def png_picture(image: bytes, alt: str) -> Picture:
    """A PNG image, embedded."""
    return Picture(data_address("image/png", image), alt)


def data_address(kind: str, image: bytes) -> str:
    """The image itself as an address, so that nothing is fetched."""
    return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"


def check_page(path: Path, field: str = "out") -> None:
    """Whether a page can be written to ``path``, told before the work that it is to show.

    field: what the user calls ``path``

    ``InvalidConfig`` where it is no name of a page, as a data set's would be overwritten, or a
    folder; ``StorageFailed`` where no file can be made. Nothing is left behind.
    """
    if path.suffix != ".html":
        raise InvalidConfig(f"{field} must end in .html, got {str(path)!r}")
    if path.is_dir():
        raise InvalidConfig(f"{field} must be a file, and {str(path)!r} is a folder")
    place.try_new(path)


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is complete or not there: another name, flushed, renamed.

    Folders that are missing are made. ``StorageFailed`` names the file that cannot be written.
    """
    durable.make_folder(path.parent)
    with durable.told(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with durable.told(path):
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp keeps others out; a report may be read by whoever may read the folder.
            os.chmod(name, path.parent.stat().st_mode & 0o666)
        durable.rename(Path(name), path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _read(name: str) -> str:
    return resources.files("flowpolicy.report").joinpath(name).read_text(encoding="utf-8")
