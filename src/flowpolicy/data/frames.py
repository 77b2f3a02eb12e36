"""Frames that are seen several at a time, each kept once, as bytes on the host."""

from typing import Any

import numpy as np

from flowpolicy.errors import InvalidConfig, InvalidData


def are_frames(array: Any) -> bool:
    """Whether ``array`` holds frames: bytes of the shape (rows, height, width, channels)."""
    plain = isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 4
    return plain or isinstance(array, Frames)


class Frames:
    """A column of stacked frames: row i is frame ``index[i]`` behind the ones before it.

    It has the shape, the dtype and the indexing of the array (rows, height, width, stack *
    channels) and is gathered when it is asked for. ``obs`` and ``next_obs`` share their frames, so
    that a row costs one frame and not ``2 * stack``. At a trajectory's beginning its first frame
    stands for those before it, as in FQL. The newest channels are the last.
    """

    def __init__(self, base: np.ndarray, index: np.ndarray, first: np.ndarray, stack: int) -> None:
        """base: (frames, height, width, channels), uint8; index: the frame of each row; first: the
        first frame of that row's trajectory.
        """
        if stack < 1:
            raise InvalidConfig(f"stack must be at least 1, got {stack}")
        if not are_frames(base):
            raise InvalidData(
                "frames must be uint8 of shape (frames, height, width, channels), got "
                f"{base.dtype} {base.shape}"
            )
        if len(index) != len(first):
            raise InvalidData(f"{len(index)} rows, and {len(first)} beginnings")
        self._base, self._index = np.asarray(base, order="C"), index
        self._first, self._stack = first, stack

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, height, width, stack * channels)."""
        *_, height, width, channels = self._base.shape
        return len(self._index), height, width, self._stack * channels

    @property
    def dtype(self) -> np.dtype:
        """uint8."""
        return self._base.dtype

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    @property
    def nbytes(self) -> int:
        """What the array would take."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, places: Any) -> np.ndarray:
        """The stacked frames of some rows: (*places, height, width, stack * channels)."""
        back = np.arange(self._stack) - (self._stack - 1)
        newest, first = self._index[places], self._first[places]
        numbers = np.maximum(newest[..., None] + back, first[..., None])
        # Whole pixels are moved, not their bytes: a third of the time.
        pixels = self._base.view(f"V{self._base.shape[-1]}")[..., 0]
        stacks = np.empty((*numbers.shape[:-1], *pixels.shape[1:], self._stack), pixels.dtype)
        for k in range(self._stack):
            stacks[..., k] = pixels[numbers[..., k]]
        return stacks.view(np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows, gathered."""
        if copy is False:
            raise ValueError("frames are gathered, which makes a copy")
        return self[:].astype(dtype or self.dtype, copy=False)


def stacked(frames: np.ndarray, last: np.ndarray, stack: int) -> tuple[Frames, Frames]:
    """``obs`` and ``next_obs`` of trajectories one after the other, without each one's last row.

    frames: (n, height, width, channels), uint8; last: (n,) flags, a trajectory's last frame
    """
    here = np.flatnonzero(~last)
    begins = np.flatnonzero(np.append(True, last[:-1]))
    first = np.repeat(begins, np.diff(np.append(begins, len(last))))
    return (
        Frames(frames, here, first[here], stack),
        Frames(frames, here + 1, first[here], stack),
    )
