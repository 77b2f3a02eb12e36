"""What a mesh of eight devices computes, written down for ``test_devices`` to look at.

A program of its own, for JAX_NUM_CPU_DEVICES: the number is fixed when JAX first uses them.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from small_runs import OFFLINE, QUIET, agents, train

import flowpolicy as fp
from flowpolicy.errors import InvalidConfig
from flowpolicy.train.stop import Stopped
from flowpolicy.train.updates import Updater

SETTINGS = {
    "seeds": (1, 2, 3, 4),
    "phases": (*OFFLINE, fp.Online(20, start_after=0, random_steps=20)),
    "evaluation": QUIET,
}


def apart(one, other):
    """The largest relative difference between two runs' agents."""
    pairs = zip(jax.tree.leaves(agents(one)), jax.tree.leaves(agents(other)), strict=True)
    return max(float(np.max(np.abs(np.float32(a) - b) / (1 + np.abs(b)))) for a, b in pairs)


def interrupted(folder, **hardware):
    """A run that was stopped amid its online phase, after its last checkpoint."""
    made, calls = Updater.update, []

    def update(self, *arguments, **options):
        calls.append(options["count"])
        if len(calls) == 8:
            raise KeyboardInterrupt
        return made(self, *arguments, **options)

    Updater.update = update
    try:
        train(folder, hardware=fp.Hardware(**hardware), checkpoint_every=4, **SETTINGS)
    except (KeyboardInterrupt, Stopped):
        pass
    finally:
        Updater.update = made
    return fp.Run(folder)


def refused(folder, **hardware):
    try:
        train(folder, hardware=fp.Hardware(**hardware), **SETTINGS)
    except InvalidConfig as error:
        return str(error)
    return ""


def main(folder):
    found = {"devices": len(jax.devices())}
    plain = train(folder / "plain", **SETTINGS)
    for seeds, batch in ((4, 1), (2, 4), (1, 8)):
        name = f"{seeds} x {batch}"
        hardware = fp.Hardware(seed_devices=seeds, batch_devices=batch)
        run = train(folder / name, hardware=hardware, **SETTINGS)
        found[name] = apart(run, plain)
        found[f"{name} mesh"] = run.load()[1]["platform"]["mesh"]
    eight = {"seed_devices": 2, "batch_devices": 4}
    stopped = interrupted(folder / "eight, stopped", **eight)
    found["stopped at"] = stopped.load()[1]["updates"]
    other = interrupted(folder / "one, stopped")
    gone_on = fp.resume(other, hardware=fp.Hardware(**eight), allow_inexact=True)
    found["one, then eight"] = apart(gone_on, plain)
    found["many"] = refused(folder / "many", seed_devices=4, batch_devices=8)
    found["seeds"] = refused(folder / "seeds", seed_devices=3)
    found["batch"] = refused(folder / "batch", batch_devices=3)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
