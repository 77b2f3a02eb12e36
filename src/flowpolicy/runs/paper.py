"""The papers' protocol as data: every method on every task, at the papers' size.

A million offline updates, then a million environment steps, with updates from step 5 000 on;
50 episodes every 100 000; batches of 256; official data sets (``flowpolicy data`` says where they
are looked for). Rewards and success have the timing of OGBench 1.1.2, under which the papers'
numbers were made; scene and puzzle-3x3 pay for the whole task alone (QC's commands), which FMQ's
page does not say of its own runs but its numbers of QC agree with.

On RoboMimic the demonstrations are several people's, as in QC and on FMQ's page. The tasks of that
page are ``PAGE``.
"""

from flowpolicy.agents import FMQ, MVP
from flowpolicy.runs import registry
from flowpolicy.runs.methods import NOISY, Method, compared, controls, from_flows, objectives
from flowpolicy.runs.ogbench import setting
from flowpolicy.runs.robomimic import RoboMimic
from flowpolicy.runs.tasks import OGBench
from flowpolicy.train.phases import Evaluation, RunConfig
from flowpolicy.train.task import Task

ENVIRONMENTS = (
    "cube-single",
    "cube-double",
    "cube-triple",
    "scene",
    "puzzle-3x3",
    "pointmaze-medium",
    "antmaze-giant",
    "humanoidmaze-medium",
)
OGBENCH = tuple(f"{env}-task{i}" for env in ENVIRONMENTS for i in range(1, 6))
"""OGBench tasks that have named runs; ``OGBench(task=...)`` takes any other."""

ROBOMIMIC = ("robomimic-lift", "robomimic-can", "robomimic-square")
"""RoboMimic's tasks of QC's paper; ``RoboMimic(task=...)`` takes two more."""

TASKS = (*OGBENCH, *ROBOMIMIC)
"""Tasks that have named runs."""

PAGE = (
    "cube-double-task3",
    "cube-double-task4",
    "cube-triple-task3",
    "cube-triple-task4",
    "scene-task4",
    "scene-task5",
    "humanoidmaze-medium-task3",
    "humanoidmaze-medium-task4",
    "antmaze-giant-task4",
    "antmaze-giant-task5",
    "robomimic-can",
    "robomimic-square",
)
"""The tasks of the table on FMQ's page."""


def environment(task: str) -> str:
    """``cube-single`` of ``cube-single-task1``, ``robomimic-can`` of itself."""
    return task.partition("-task")[0]


def task_of(task: str) -> Task:
    """The task as the papers have it."""
    if task in ROBOMIMIC:
        return RoboMimic(task.removeprefix("robomimic-"))
    return OGBench(task, timing="mixed", sparse=setting("qc", environment(task)).sparse)


def paper_run(method: Method, task: str) -> RunConfig:
    """``method`` on ``task`` with the papers' budget."""
    env = environment(task)
    return RunConfig(
        agent=method.agent(env),
        task=task_of(task),
        phases=method.phases,
        batch=method.batch(env),
        draw=method.draw,
        evaluation=Evaluation(refiners=method.refiners),
    )


def register() -> None:
    """Every method on every task, and those of ``NOISY`` on noisy data of cube-single."""
    fmq = FMQ()
    methods = (*compared(fmq), *controls(fmq), *objectives(fmq, MVP()), *from_flows(fmq))
    for method in methods:
        registry.add_family(
            method.name, method.summary, TASKS, lambda task, method=method: paper_run(method, task)
        )
    for method in (method for method in methods if method.name in NOISY):
        for i in range(1, 6):
            task = f"cube-single-noisy-task{i}"
            registry.add(
                f"{method.name}/{task}", f"{method.name.upper()} on noisy data",
                lambda task=task, method=method: paper_run(method, task),
            )  # fmt: skip
