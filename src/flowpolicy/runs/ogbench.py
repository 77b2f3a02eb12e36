"""What the papers set for every environment of OGBench, in one table with sources.

``SETTINGS`` holds a row for each paper and group of environments; ``setting`` finds an
environment's. The named runs of the papers' size take their rewards from here, those of FQL, IFQL
and QAM their discounts too, QAM's their chunks. GFP's discounts stand in its own table
(``guided``); FMQ, MVP and QC have the same everywhere, the agents' defaults. Tests hold all of them
against these rows. Rewards and success have the timing of OGBench 1.1.2 in all of these papers
(``OGBench(timing="mixed")``).
"""

import dataclasses

from flowpolicy.data.sets import ENVIRONMENTS
from flowpolicy.errors import unknown_name

NUMBERS = range(1, 6)
"""Numbers of the tasks of an environment."""

TASKS = tuple(f"{environment}-task{i}" for environment in ENVIRONMENTS for i in NUMBERS)
"""Every task with state observations, on its usual data; ``antmaze-large-stitch-task1`` and
``cube-single-noisy-task1`` have others, ``flowpolicy.data.sets`` which there are."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a paper treats the environments whose names begin with ``environments``.

    discount: gamma, of one environment step
    chunk:    h, actions of a chunk; 1 for single actions
    sparse:   whether every step of an unfinished task has reward -1
    data:     the words for its data in OGBench's names, where not play or navigate
    source:   where the paper says so, or why it is believed
    """

    paper: str
    environments: str
    discount: float
    chunk: int
    sparse: bool = False
    data: str = ""
    source: str = ""


SETTINGS: tuple[Setting, ...] = (
    Setting("qc", "cube", 0.99, 5, source="QC, Tables 3 to 5"),
    Setting("qc", "cube-quadruple", 0.99, 5, data="play-100m", source="QC, README of its code"),
    Setting("qc", "puzzle", 0.99, 5, source="QC, Tables 3 to 5"),
    Setting("qc", "puzzle-3x3", 0.99, 5, sparse=True, source="QC, README of its code"),
    Setting("qc", "scene", 0.99, 5, sparse=True, source="QC, README of its code"),
    Setting("qc", "", 0.99, 5, source="ours: QC has no mazes"),
    Setting("fmq", "", 0.99, 5, source="FMQ, defaults of its code; the page has no discount"),
    Setting(
        "fmq", "scene", 0.99, 5, sparse=True, source="FMQ's numbers of QC are QC's sparse ones"
    ),
    Setting("fmq", "puzzle-3x3", 0.99, 5, sparse=True, source="as QC; not on FMQ's page"),
    Setting("mvp", "", 0.99, 5, source="FMQ's MVP: as FMQ"),
    Setting("mvp", "scene", 0.99, 5, sparse=True, source="as FMQ"),
    Setting("mvp", "puzzle-3x3", 0.99, 5, sparse=True, source="as FMQ"),
    Setting("fql", "", 0.99, 1, source="FQL, Table 5"),
    Setting("fql", "antmaze-giant", 0.995, 1, source="FQL, Table 5 and README of its code"),
    Setting("fql", "antsoccer", 0.995, 1, source="FQL, Table 5 and README of its code"),
    Setting("fql", "humanoidmaze", 0.995, 1, source="FQL, Table 5 and README of its code"),
    Setting("qam", "cube", 0.99, 5, source="QAM, scripts of its code"),
    Setting("qam", "cube-quadruple", 0.99, 5, data="play-100m", source="QAM, scripts of its code"),
    Setting("qam", "puzzle-3x3", 0.99, 5, sparse=True, source="QAM, scripts of its code"),
    Setting("qam", "puzzle-4x4", 0.99, 5, True, "play-100m", source="QAM, scripts of its code"),
    Setting("qam", "scene", 0.99, 5, sparse=True, source="QAM, scripts of its code"),
    Setting("qam", "antmaze", 0.99, 1, source="QAM, scripts of its code"),
    Setting("qam", "antmaze-giant", 0.995, 1, source="QAM, scripts of its code"),
    Setting("qam", "humanoidmaze", 0.995, 1, source="QAM, scripts of its code"),
    Setting("qam", "pointmaze", 0.99, 1, source="ours: as antmaze; QAM has none"),
    Setting("qam", "", 0.99, 5, source="ours: as cube; QAM has none"),
    Setting("gfp", "", 0.99, 1, source="GFP, table of its released runs"),
    Setting("gfp", "antmaze", 0.995, 1, source="ours: as antmaze-large; GFP has them not"),
    Setting("gfp", "antmaze-giant", 0.995, 1, source="GFP, table of its released runs"),
    Setting("gfp", "antmaze-large", 0.995, 1, source="GFP, table of its released runs"),
    Setting("gfp", "antsoccer", 0.995, 1, source="GFP, table of its released runs"),
    Setting("gfp", "humanoidmaze", 0.995, 1, source="ours: as antmaze-large; GFP has it not"),
    Setting("gfp", "humanoidmaze-medium", 0.995, 1, source="GFP, table of its released runs"),
    Setting("gfp", "humanoidmaze-medium-stitch", 0.999, 1, source="GFP, table of its runs"),
    Setting("gfp", "humanoidmaze-large", 0.999, 1, source="GFP, table of its released runs"),
    Setting("gfp", "pointmaze", 0.995, 1, source="ours: as antmaze; GFP has none"),
)


def setting(paper: str, environment: str) -> Setting:
    """The row of ``paper`` whose ``environments`` is the longest beginning of ``environment``.

    Raises ``UnknownName`` for a paper that has no rows.
    """
    rows = [row for row in SETTINGS if row.paper == paper]
    if not rows:
        raise unknown_name("paper", paper, {row.paper for row in SETTINGS})
    fitting = [row for row in rows if environment.startswith(row.environments)]
    return max(fitting, key=lambda row: len(row.environments))
