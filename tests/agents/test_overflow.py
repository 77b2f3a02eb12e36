"""Runs whose weights or adjoints overflow: told, never clipped, and ended as diverged."""

import pytest

import flowpolicy as fp
from flowpolicy.agents.gfp import advantage_guidance
from flowpolicy.errors import Diverged
from flowpolicy.flows import ScaledWeights
from flowpolicy.nets import MLPCritic, MLPOneStep, MLPVelocity
from flowpolicy.train.guards import Guard
from flowpolicy.train.phases import Evaluation

VELOCITY = MLPVelocity(width=8, depth=1)
TINY = {
    "phases": (fp.Offline(30),), "batch": 8, "guard": Guard(rollbacks=0),
    "evaluation": Evaluation(every=0, final_episodes=0), "critic": MLPCritic(width=8, depth=1),
    "actor": VELOCITY,
}  # fmt: skip
WEIGHTS = {
    "guidance": advantage_guidance, "eta": 1e-6, "behaviour": VELOCITY,
    "actor": MLPOneStep(width=8, depth=1),
}  # fmt: skip
MIRRORED = {
    "phases": (fp.Online(40, start_after=8),), "weigh": ScaledWeights(temperature=1e-6), "delay": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fields", "metric"),
    [
        ("gfp", WEIGHTS, "weights/mean"),
        ("qam", {"inverse_temperature": 1e38}, "qam/adjoint_largest"),
        ("fpmd", MIRRORED, "weights/mean"),
    ],
)
def test_a_run_that_overflows_ends_as_diverged(tmp_path, name, fields, metric):
    """Before its updates are done, ten bad ones in a row having been allowed; the verdict names
    what overflowed, the run's state keeps it, and no resumption goes on."""
    said = rf"\d+ more in a row: .*{metric}.* not finite.*overflow"
    with pytest.raises(Diverged, match=said) as caught:
        fp.train(f"toy/{name}/unequal-modes", out=tmp_path / "r", **{**TINY, **fields})
    run = fp.Run(tmp_path / "r")
    status = run.status()
    assert (status["state"], status["verdict"]) == ("diverged", str(caught.value))
    with pytest.raises(Diverged):
        fp.resume(run)
