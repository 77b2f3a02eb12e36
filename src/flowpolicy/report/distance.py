"""How far two samples are apart as distributions: the energy distance, and its noise."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from flowpolicy.errors import InvalidData

_BLOCK = 512  # rows of the table of distances that are held at a time


class Noise(NamedTuple):
    """Mean and standard deviation of the estimate between two samples of one law."""

    mean: float
    std: float


def energy_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|, without bias (Szekely and Rizzo 2013).

    At least 0 for the laws themselves, and 0 only where they are equal; the estimate scatters
    about that and may be below 0. ``InvalidData`` for fewer than 2 points, or different sizes.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise InvalidData(f"need (n >= 2, d) and (m >= 2, d), got {x.shape} and {y.shape}")
    n, m = len(x), len(y)
    between = _sum_of_distances(x, y) / (n * m)
    # Without the pairs of a point with itself, which are 0 and would pull the mean down.
    within_x = _sum_of_distances(x, x) / (n * (n - 1))
    within_y = _sum_of_distances(y, y) / (m * (m - 1))
    return 2 * between - within_x - within_y


def noise_of(
    points: Float[np.ndarray, "n d"], size: int, rng: np.random.Generator, *, repeats: int = 20
) -> Noise:
    """The estimate between two disjoint random halves, ``size`` points each, of one sample.

    ``InvalidData`` where the sample has fewer than 2 ``size`` points.
    """
    if len(points) < 2 * size:
        raise InvalidData(f"two sets of {size} points need {2 * size}, got {len(points)}")
    values = []
    for _ in range(repeats):
        order = rng.permutation(len(points))[: 2 * size]
        values.append(energy_distance(points[order[:size]], points[order[size:]]))
    return Noise(float(np.mean(values)), float(np.std(values, ddof=1)))


def _sum_of_distances(x: np.ndarray, y: np.ndarray) -> float:
    total, square = 0.0, np.square(y).sum(axis=1)
    for start in range(0, len(x), _BLOCK):
        part = x[start : start + _BLOCK]
        table = np.square(part).sum(axis=1)[:, None] + square - 2.0 * part @ y.T
        total += float(np.sqrt(np.maximum(table, 0.0)).sum())
    return total
