"""Guards, on the host: bad updates are counted, written down, and ended.

With one seed a run that diverges goes back (``GoBack``) to its newest good checkpoint and on with
the next attempt's random numbers, a few times; then it ends as ``Diverged``. What no other random
numbers would change (data that are not finite, a discount above 1, rewards out of scale, a target
that does not move) ends it at once. Of several seeds the one that diverges is frozen: it is trained
no more and its environment is given zeros; the others go on, to the bit, as they would have.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowpolicy.errors import Diverged, InvalidData
from flowpolicy.nets import LARGEST
from flowpolicy.train import reproduction, verdict
from flowpolicy.train.folder import RunFolder, Trained
from flowpolicy.train.guards import Bounds, Fault, Guard, Report, trainables
from flowpolicy.train.phases import RunConfig
from flowpolicy.train.watch import Watch
from flowpolicy.types import Rows, Transition

SMALLEST_RANGE = 10.0
"""Values of nets that have learned nothing are of order one, whatever the rewards are."""
FOR_GOOD = Fault.DATA | Fault.DISCOUNT | Fault.SCALE | Fault.TARGET
"""Faults that other random numbers would meet again."""
AT_ONCE = Fault.DATA | Fault.DISCOUNT | Fault.SCALE
"""Faults that one bad update proves."""


class GoBack(Exception):
    """The run is to go back to its newest good checkpoint, because of what the message says."""


def check_rewards(config: RunConfig, rows: Rows | None) -> None:
    """Raises ``InvalidData`` where rewards are so large that float32 drowns differences of values.

    Scaling all rewards by one positive number changes no optimal policy.
    """
    guard, discount = config.guard, config.agent.view.discount
    if guard is None or rows is None or not discount < 1:
        return
    size = float(np.max(np.abs(np.asarray(rows.reward)), initial=0.0))
    if size / (1.0 - discount) > guard.value_limit:
        raise InvalidData(f"{_scale(size, discount, guard)}; scale the rewards down")


def _scale(size: float, discount: float, guard: Guard) -> str:
    worth = size / (1.0 - discount)
    return (
        f"rewards of size {size:g} make values of up to {worth:.3g} (discount {discount:g}), above "
        f"guard.value_limit, {guard.value_limit:g}: float32 tells numbers of that size apart by "
        f"{np.spacing(np.float32(worth)):.2g}"
    )


@dataclasses.dataclass(frozen=True)
class Bad:
    """One bad update; ``meta`` is what a reproduction says of it."""

    faults: Fault
    batch: Transition
    meta: dict[str, Any]


class Sentinel:
    """Watches one run; its state is part of every checkpoint."""

    def __init__(
        self,
        config: RunConfig,
        guard: Guard,
        rows: Rows | None,
        *,
        folder: RunFolder,
        watch: Watch,
        attempt: int,
    ) -> None:
        """``rows`` are the offline ones; ``attempt`` is how often the run went back."""
        self._config, self._guard, self._attempt = config, guard, attempt
        self._folder, self._watch = folder, watch
        self._discount = float(config.agent.view.discount)
        seeds = len(config.seeds)
        self._rewards = np.zeros((seeds, 2))
        self._known: Bounds | None = None
        if rows is not None:
            self.saw_offline(rows)
        self._in_a_row = np.zeros(seeds, np.int64)
        self.bad = np.zeros(seeds, np.int64)
        self.frozen: dict[int, str] = {}

    @property
    def alive(self) -> np.ndarray:
        """Per seed, whether it did not diverge."""
        return np.asarray([i not in self.frozen for i in range(len(self._config.seeds))])

    @property
    def flawed(self) -> bool:
        """Whether the last update of a seed that is alive was bad."""
        return bool(np.any((self._in_a_row > 0) & self.alive))

    def bounds(self) -> Bounds:
        """What is possible after the rewards so far, per seed."""
        if self._known is None:  # made once per change: a tick is short
            self._known = Bounds(*(jnp.asarray(x, jnp.float32) for x in self._bounds()))
        return self._known

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low, high = self._rewards.T
        if not self._discount < 1:  # a view of somebody's own; nothing is impossible then
            return np.full_like(low, -np.inf), np.full_like(high, np.inf), np.ones_like(low)
        low, high = low / (1.0 - self._discount), high / (1.0 - self._discount)
        margin = self._guard.value_margin * np.maximum(high - low, SMALLEST_RANGE)
        return low - margin, high + margin, np.maximum(high - low, 1.0)

    def _widen(self, rewards: np.ndarray) -> None:
        """Rewards (seeds, any number) join those so far. 0 is always among them: an end's."""
        before = self._rewards.copy()
        self._rewards[:, 0] = np.fmin(self._rewards[:, 0], np.fmin.reduce(rewards, 1, initial=0.0))
        self._rewards[:, 1] = np.fmax(self._rewards[:, 1], np.fmax.reduce(rewards, 1, initial=0.0))
        if not np.array_equal(before, self._rewards):
            self._known = None

    def saw_offline(self, rows: Rows) -> None:
        """Rows that all seeds learn from came in."""
        shape = len(self._rewards), len(rows.reward)
        self._widen(np.broadcast_to(np.asarray(rows.reward), shape))

    def saw(self, rewards: np.ndarray, counts: np.ndarray) -> None:
        """Online rows came in: of each seed's ``rewards`` (seeds, h) the first ``counts``."""
        real = np.arange(rewards.shape[1]) < counts[:, None]
        self._widen(np.where(real, rewards, 0.0))
        for i, size in enumerate(np.abs(self._rewards).max(axis=1)):
            large = self._discount < 1 and size > self._guard.value_limit * (1.0 - self._discount)
            if large and i not in self.frozen:
                what = _scale(float(size), self._discount, self._guard)
                self._end(
                    i, f"{what}; usually caused by {verdict.CAUSES[Fault.SCALE]}", again=False
                )

    def checked(self, chunks: np.ndarray, trained: Trained) -> np.ndarray:
        """Chunks to collect by (seeds, D): zeros for frozen seeds; all must be finite."""
        self._meet(chunks, trained, again=True)
        return np.where(self.alive[:, None], chunks, np.float32(0.0))

    def finite(self, chunks: np.ndarray, trained: Trained) -> np.ndarray:
        """Chunks to evaluate by (seeds, D): those of frozen seeds too, with 0 where they are not
        finite; all others must be, and going back would come to the same state.
        """
        self._meet(chunks, trained, again=False)
        return np.where(np.isfinite(chunks), chunks, np.float32(0.0))

    def _meet(self, chunks: np.ndarray, trained: Trained, *, again: bool) -> None:
        for i in np.flatnonzero(self.alive & ~np.isfinite(chunks).all(axis=1)):
            why = verdict.cause(Fault.ACTION, trained.agents)
            self._end(int(i), f"the policy's actions are not finite; {why}", again=again)

    def read(self, first: np.ndarray, report: Report, trained: Trained, *, online: bool) -> None:
        """A block of updates, each seed's numbered from its ``first``, was made; ``trained`` came
        of it.

        Raises ``GoBack`` or ``Diverged`` where that is what follows.
        """
        faults = np.asarray(report.faults)
        if not faults.any():
            self._in_a_row[:] = 0
            return
        for i in map(int, np.flatnonzero(self.alive)):
            began, longest = self._in_a_row[i] == 0, self._count(i, faults[i])
            if not faults[i].any():
                continue
            own = Trained(
                jax.tree.map(lambda x, i=i: x[i : i + 1], trained.agents), trained.normaliser
            )
            bad = self._bad(
                i, int(first[i]), jax.tree.map(lambda x, i=i: np.asarray(x)[i], report), own
            )
            ends = bool(bad.faults & AT_ONCE) or longest >= self._guard.in_a_row
            few = len(reproduction.written(self._folder)) < self._guard.reproductions
            where = ""
            if ends or (began and few):
                meta = bad.meta | {"online": online}
                where = reproduction.write(self._folder, own, bad.batch, meta).name
            if ends:
                times = f" and {longest - 1} more in a row" if longest > 1 else ""
                told = f"update {bad.meta['updates']} of seed {bad.meta['seed']}{times}: "
                told += f"{bad.meta['verdict']}; see reproductions/{where} of the run"
                self._end(i, told, again=not bad.faults & FOR_GOOD)

    def _count(self, i: int, faults: np.ndarray) -> int:
        """The longest run of bad updates that ends or begins in this block."""
        longest = run = int(self._in_a_row[i])
        for fault in faults:
            run = run + 1 if fault else 0
            longest = max(longest, run)
        self._in_a_row[i] = run
        self.bad[i] += np.count_nonzero(faults)
        return longest

    def _bad(self, i: int, first: int, report: Report, own: Trained) -> "Bad":
        """The i-th seed's first bad update of a block, whose report is without the seed axis."""
        faults = Fault(int(report.faults[report.first]))
        if verdict.not_finite(report.batch):
            faults |= Fault.DATA
        metrics = {name: float(value) for name, value in report.metrics.items()}
        bounds = [float(x[i]) for x in self._bounds()]
        limits = {k: float(v.limit[0]) for k, v in trainables(own.agents).items()}
        what = verdict.describe(faults, metrics, report.batch, limits, (bounds[0], bounds[1]))
        meta = {
            "seed": self._config.seeds[i],
            "attempt": self._attempt,
            "updates": first + int(report.first),
            "env_steps": [],
            "faults": [str(fault.name) for fault in Fault if fault in faults],
            "metrics": {k: v for k, v in metrics.items() if np.isfinite(v)},
            "bounds": np.clip(bounds, -LARGEST, LARGEST).tolist(),
            "verdict": f"{what}; {verdict.cause(faults, own.agents)}",
        }
        return Bad(faults, report.batch, meta)

    def _end(self, i: int, what: str, *, again: bool) -> None:
        """The i-th seed diverged; ``again`` where other random numbers may do better."""
        if len(self._config.seeds) == 1:
            if again and self._attempt < self._guard.rollbacks:
                raise GoBack(what)
            tries = f", after going back {self._attempt} times" if self._attempt else ""
            raise Diverged(
                f"{what}: training stopped{tries}, and the last good checkpoint stays in "
                f"{self._folder.checkpoints}"
            )
        self.frozen[i], self._in_a_row[i] = what, 0
        seed = self._config.seeds[i]
        self._watch.say(
            f"seed {seed} diverged and is frozen, the others go on: {what}. To train it again "
            f"alone: the same command with --seed {seed}"
        )
        if not self.alive.any():
            raise Diverged(f"every seed diverged, the last one so: {what}")

    def line(self, i: int) -> dict[str, float]:
        """What a line of the metrics says of the i-th seed: bad updates so far, and whether it is
        frozen."""
        return {"guard/bad": float(self.bad[i]), "guard/frozen": float(i in self.frozen)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint says."""
        return {
            "rewards": self._rewards.tolist(),
            "in_a_row": self._in_a_row.tolist(),
            "bad": self.bad.tolist(),
            "frozen": {str(i): what for i, what in self.frozen.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``; an empty one, of a run from before there were guards, is none."""
        if state:
            self._rewards, self._known = np.asarray(state["rewards"], float), None
            self._in_a_row = np.asarray(state["in_a_row"], np.int64)
            self.bad = np.asarray(state["bad"], np.int64)
            self.frozen = {int(i): what for i, what in state["frozen"].items()}

    def verdicts(self) -> dict[str, str]:
        """Per frozen seed, the verdict."""
        return {str(self._config.seeds[i]): what for i, what in sorted(self.frozen.items())}
