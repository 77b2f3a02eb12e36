"""Rows of OGBench's arm that one core collects in a second of its processor time.

``python -m benchmarks.collecting [--rows N]``. Whole episodes of play data, as ``flowpolicy data
collect`` makes them; starting a process and making the environment are not counted. Processor time,
so that whatever else the machine does is in the numbers through its caches alone.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks import measure
from flowpolicy.data import play
from flowpolicy.data.sets import find_set
from flowpolicy.simulators import gymnasium_with_ogbench

REFERENCE = {"cube-single": 613, "cube-double": 562, "cube-triple": 483, "scene": 486}
"""Rows a second of CPU of a collector that was measured before this library had one."""


def measured(name: str, rows: int) -> dict[str, Any]:
    """Episodes until there are ``rows`` transitions."""
    steps = find_set(name).steps
    player = play.make_player(name, "play", steps)
    began, made, episodes = time.process_time(), 0, 0
    while made < rows:
        arrays, _ = play.play_episode(player, 0, 0, episodes)
        made, episodes = made + len(arrays["actions"]) - 1, episodes + 1
    taken = time.process_time() - began
    return {"rows": made, "episodes": episodes, "rows_per_cpu_second": round(made / taken, 1)}


def main(rows: int = 2_000, results: Path | None = None) -> None:
    """Measures, prints, writes ``results/collecting-<device>.json``."""
    about = measure.machine()
    gymnasium_with_ogbench()
    found = {name: measured(name, rows) for name in REFERENCE}
    lines = [
        measure.wanted(f"{name}, rows/s", f["rows_per_cpu_second"], REFERENCE[name], at_most=False)
        for name, f in found.items()
    ]
    content = {"benchmark": "collecting", "machine": about, "results": found, "wanted": lines}
    path = measure.write("collecting", content, results)
    measure.show_wanted(lines)
    print(f"written: benchmarks/results/{path.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    main(chosen.rows, chosen.results)
