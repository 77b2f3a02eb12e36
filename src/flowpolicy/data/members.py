"""The members of an HDF5 file that somebody else may have written, for readers of ``data.foreign``.

Links out of the file, arrays kept elsewhere, unknown filters, and what unpacks to too much are
refused, each with the file and the member.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flowpolicy.errors import CorruptFile
from flowpolicy.readers import Limits

FILTERS = {1, 2, 3, 32000}
"""Deflate, shuffle, Fletcher's sum, LZF: what h5py itself unpacks."""


class Members:
    """Groups and arrays of the file itself, counted against the limits."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Nothing is read yet."""
        self._path, self._limits = path, limits
        most = max(limits.npz_free_bytes, limits.rows_ratio * path.stat().st_size)
        self._left = min(limits.rows_bytes, most)

    def trouble(self, where: str, what: str) -> CorruptFile:
        """The error of the member ``where``."""
        return CorruptFile(f"{self._path}: {where.strip('/')} {what}")

    def member(self, group: h5py.Group, name: str) -> Any:
        """A group or an array, in this file itself."""
        where = f"{group.name}/{name}"
        link = group.get(name, default=None, getlink=True)
        if link is None:
            raise self.trouble(where, "is missing")
        if not isinstance(link, h5py.HardLink):
            raise self.trouble(where, "is a link; only what is in the file itself is read")
        return group[name]

    def group(self, group: h5py.Group, name: str) -> h5py.Group:
        """A group with no more members than the limits allow."""
        found = self.member(group, name)
        if not isinstance(found, h5py.Group):
            raise self.trouble(f"{group.name}/{name}", "must be a group")
        if len(found) > self._limits.members:
            raise self.trouble(f"{group.name}/{name}", f"has {len(found):,} members")
        return found

    def array(self, group: h5py.Group, name: str) -> h5py.Dataset:
        """An array that may be read: its own bytes, at least one axis, known filters."""
        found, where = self.member(group, name), f"{group.name}/{name}"
        if not isinstance(found, h5py.Dataset):
            raise self.trouble(where, "must be an array")
        if found.external or found.is_virtual:
            raise self.trouble(where, "is kept in another file, and that is not read")
        plist = found.id.get_create_plist()
        used = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if used - FILTERS:
            raise self.trouble(where, f"is packed by filters {sorted(used)}, which are not read")
        if found.shape is None or found.ndim == 0:
            raise self.trouble(where, "must have one entry a row")
        return found

    def values(self, group: h5py.Group, name: str) -> np.ndarray:
        """The plain numbers of an array."""
        found, where = self.array(group, name), f"{group.name}/{name}"
        if found.dtype.kind not in "biuf":
            raise self.trouble(where, f"must hold plain numbers, got dtype {found.dtype}")
        self._left -= found.nbytes
        if self._left < 0 or found.nbytes > self._limits.reader_bytes // 4:
            raise self.trouble(where, f"unpacks to {found.nbytes:,} bytes, which is too much")
        return found[()]
