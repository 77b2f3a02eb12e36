"""Actions one after another, each as soon as it exists."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flowpolicy.train.policy import Policy


def stream(policy: Policy, observe: Callable[[], Any]) -> Iterator[np.ndarray]:
    """Yields actions, (action_size,) each, without end; ``observe()`` gives the newest observation.

    It is asked for one when a policy call is due, and not before: before every action of a policy
    that streams (SFP), whose call costs one segment of its flow; before every chunk of another,
    whose first action waits for the whole chunk. Close the iterator, or drop it, at an episode's
    end, and call ``policy.reset()`` before the next. Raises ``InvalidData`` as ``Policy.act``.
    """
    while True:
        yield from policy.act(observe())
