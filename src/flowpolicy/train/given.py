"""What callers give by hand, checked where it comes in."""

from flowpolicy.errors import InvalidConfig


def check_episodes(episodes: int, seed: int | None) -> None:
    """``InvalidConfig`` unless there are some, and ``seed``, where there is one, is at least 0."""
    if episodes < 1 or (seed or 0) < 0:
        raise InvalidConfig(f"need episodes >= 1 and episode_seed >= 0, got {episodes} and {seed}")
