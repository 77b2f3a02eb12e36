"""Episodes of every method to look at, failures among them."""

import dataclasses

from flowpolicy import parts
from flowpolicy.errors import FlowPolicyError
from flowpolicy.report.material import Rollout
from flowpolicy.report.methods import Cell
from flowpolicy.report.rollout import Act, record_examples
from flowpolicy.report.show import tracker
from flowpolicy.train.folder import OWN, RunFolder
from flowpolicy.train.policy import Policy
from flowpolicy.train.random import Stream, episode_seed
from flowpolicy.train.task import env_to_show

EPISODES_TRIED = 8


@dataclasses.dataclass(frozen=True)
class Example:
    """A solved and an unsolved episode of one method on one task, of its first seed.

    Each is None where none of the episodes tried was one; ``absent`` says why there is neither.
    """

    method: str
    task: str
    success: Rollout | None = None
    failure: Rollout | None = None
    absent: str = ""


def example(cell: Cell) -> Example:
    """Plays the first evaluation episodes of the cell's first seed until there is one of each."""
    seed, run = next(iter(cell.origin.items()))
    try:
        success, failure = _play(cell, RunFolder(run.path), seed)
    except FlowPolicyError as error:
        # No checkpoint, no environment, a part that is not registered here: said in its place.
        return Example(cell.method, cell.task, absent=str(error))
    return Example(cell.method, cell.task, success, failure)


def _play(cell: Cell, folder: RunFolder, seed: int) -> tuple[Rollout | None, Rollout | None]:
    config = folder.config()
    refiner = None if cell.refiner == OWN else parts.parse(cell.refiner)
    index = config.seeds.index(seed)
    env = env_to_show(config.task)
    try:
        policy = Policy.load(folder.path, seed_index=index, refiner=refiner, seed=seed).in_box()

        def begin(episode: int) -> Act:
            del episode  # the noise goes on from episode to episode
            return policy.session()

        starts = [episode_seed(seed, Stream.EVALUATE, i) for i in range(EPISODES_TRIED)]
        return record_examples(begin, env, seeds=starts, track=tracker(env), frame_every=5)
    finally:
        env.close()
