"""The geometry of Push-T: the block's outline, and ways of the finger around it."""

import functools
import math
from typing import Any

import numpy as np

from flowpolicy.envs.pusht import HALF, Scene

OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float
)
"""Corners of the T about its position, counterclockwise."""
FINGER = 15.0
"""Its radius. All lengths here are pixels."""
CLEAR = 4.0
"""Between finger and block on a way, at least."""
SPACING = 12.0
"""Between two points of the outline from which pushes are tried."""
CELL, CELLS = 16.0, 32
"""Of the grid on which a way is sought."""


class Ways:
    """Ways of the finger around the block, from where it is."""

    def __init__(self, scene: Scene) -> None:
        from scipy.sparse.csgraph import dijkstra

        start = cell_of(scene.finger)
        self.free = distance(scene.block, _centres()) > FINGER + CLEAR
        self.free[start] = True
        graph = _grid().multiply(self.free[:, None]).multiply(self.free[None, :]).tocsr()
        graph.eliminate_zeros()  # a zero that is stored would be a way of no length
        self.length, self._before = dijkstra(graph, indices=start, return_predecessors=True)

    def reaches(self, point: np.ndarray) -> bool:
        """Whether the finger comes to the cell of ``point``."""
        return bool(self.free[cell_of(point)]) and bool(np.isfinite(self.length[cell_of(point)]))

    def to(self, point: np.ndarray) -> list[np.ndarray]:
        """The middles of the cells after the first, up to that of ``point``, and ``point``."""
        points, cell = [point], cell_of(point)
        while self._before[cell] >= 0:
            points.append(_centres()[cell])
            cell = int(self._before[cell])
        return points[::-1]


def on_board(point: np.ndarray, edge: float) -> bool:
    """Whether ``point`` is on the board and farther than ``edge`` from its edge."""
    return bool(np.all((point > edge) & (point < 2 * HALF - edge)))


def corners(block: np.ndarray) -> np.ndarray:
    """The T's corners (8, 2) where ``block`` (x, y, angle) lies."""
    return OUTLINE @ turn(block[2]).T + block[:2]


def distance(block: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Of ``points`` (n, 2) from the block (n,), 0 within it."""
    import shapely  # pyright: ignore[reportMissingModuleSource]

    return np.asarray(shapely.distance(shapely.Polygon(corners(block)), shapely.points(points)))


def cell_of(point: np.ndarray) -> int:
    """The grid's cell in which ``point`` lies, or the nearest one."""
    i, j = np.clip((point / CELL).astype(int), 0, CELLS - 1)
    return int(i * CELLS + j)


def turn(angle: float) -> np.ndarray:
    """The rotation (2, 2) by ``angle`` radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


@functools.lru_cache(maxsize=1)
def contacts() -> list[tuple[np.ndarray, np.ndarray]]:
    """Points of the outline and their unit normals outwards, about the block's position."""
    found = []
    for start, end in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        side = end - start
        length = float(np.linalg.norm(side))
        outwards = np.array([side[1], -side[0]]) / length
        count = max(2, round(length / SPACING))
        found += [(start + (i + 0.5) / count * side, outwards) for i in range(count)]
    return found


@functools.lru_cache(maxsize=1)
def _centres() -> np.ndarray:
    """Middles of the grid's cells (cells, 2)."""
    axis = (np.arange(CELLS) + 0.5) * CELL
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


@functools.lru_cache(maxsize=1)
def _grid() -> Any:
    """Distances between neighbouring cells, the eight around each, as a sparse matrix."""
    from scipy.spatial import KDTree

    tree = KDTree(_centres())
    return tree.sparse_distance_matrix(tree, 1.5 * CELL, output_type="coo_matrix").tocsr()
