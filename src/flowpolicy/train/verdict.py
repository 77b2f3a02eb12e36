"""What a bad update is called: which guard, which values, and what usually causes it."""

from typing import Any

import jax
import numpy as np

from flowpolicy.agents.base import Agent
from flowpolicy.nets import LARGEST
from flowpolicy.train.guards import TARGET_MEAN, Fault, trainables
from flowpolicy.types import Transition

CAUSES = {
    Fault.DATA: "an environment or a file whose rows were altered after they had been checked",
    Fault.DISCOUNT: "a batch view of one's own; those of the library refuse such a gamma",
    Fault.SCALE: "rewards that were not scaled down, or are in other units than meant",
    Fault.TARGET: "tau that is 0, or so small that float32 drops it",
    Fault.LOSS: "a learning rate that is too high ({rates}), or an overflow in a net or a loss",
    Fault.GRADIENT: "a learning rate that is too high ({rates})",
    Fault.VALUE: "a learning rate that is too high ({rates}), or a critic that is asked about "
    "actions far from all data",
    Fault.ACTION: "a learning rate that is too high ({rates}): the nets overflow",
}
"""What most often leads to a fault; ``{rates}`` stands for the optimisers' learning rates."""


def first_of(faults: Fault) -> Fault:
    """The fault that causes the others, if there are several."""
    return next(fault for fault in Fault if fault in faults)


def cause(faults: Fault, agent: Agent) -> str:
    """What usually leads to it."""
    rates = ", ".join(f"{k}: {v.optimiser.rate:g}" for k, v in trainables(agent).items())
    return f"usually caused by {CAUSES[first_of(faults)].format(rates=rates)}"


def describe(
    faults: Fault,
    metrics: dict[str, float],
    batch: Transition,
    limits: dict[str, float],
    bounds: tuple[float, float],
) -> str:
    """What was seen at one update of one seed, as a clause.

    limits: the gradients' norms that would have been followed; bounds: of the mean target
    """
    fault = first_of(faults)
    if fault is Fault.DATA or not _finite(batch):
        return f"the batch holds values that are not finite: {'; '.join(not_finite(batch))}"
    if fault is Fault.DISCOUNT:
        return f"a transition's discount is {float(np.max(batch.discount)):.6g}, above 1"
    if fault is Fault.TARGET:
        return "the target critic stays where it is while the online critic moves"
    norms = {k.removeprefix("gradient/"): v for k, v in metrics.items() if k[:9] == "gradient/"}
    if fault is Fault.LOSS:
        names = [k for k, v in metrics.items() if not np.isfinite(v)]
        names += [f"the gradient of {k}" for k, norm in norms.items() if norm >= LARGEST]
        return f"{', '.join(names)} not finite"
    if fault is Fault.GRADIENT:
        over = [k for k, norm in norms.items() if norm >= limits[k]] or list(norms)
        high = [f"that of {k} is {norms[k]:.3g}, allowed {limits[k]:.3g}" for k in over]
        return f"a gradient's norm is far above the usual: {'; '.join(high)}"
    low, high = bounds
    return (
        f"the critics' mean target is {metrics[TARGET_MEAN]:.6g}, and values can only be between "
        f"{low:.6g} and {high:.6g}, a margin included"
    )


def not_finite(batch: Transition) -> list[str]:
    """Where a batch is not finite: per field, the first samples."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(batch)[0]:
        bad = ~np.isfinite(np.asarray(leaf))
        samples = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        if len(samples):
            named = ", ".join(str(i) for i in samples[:5]) + (" ..." if len(samples) > 5 else "")
            found.append(f"{jax.tree_util.keystr(path).lstrip('.')} of sample {named}")
    return found


def _finite(batch: Any) -> bool:
    return not not_finite(batch)
