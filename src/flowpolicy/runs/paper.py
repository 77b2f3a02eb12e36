"""The papers' protocol as data: every method on every task, at the papers' size.

A million offline updates, then a million environment steps, with updates from step 5 000 on;
50 episodes every 100 000; batches of 256; official data sets (``flowpolicy data`` says where they
are looked for). QAM has half as many environment steps and evaluates twice as often; GFP is offline
alone, tries 100 episodes, and has larger batches on the largest tasks.

Rewards and success have the timing of OGBench 1.1.2, under which the papers' numbers were made. A
method has the rewards of its paper (``ogbench.SETTINGS``), to which its weights are tied: scene and
puzzle-3x3 pay for the whole task alone in QC and QAM, and in FMQ and MVP, whose page does not say
but has QC's numbers of QC; for every part of it in FQL, IFQL and GFP. ``--task`` gives others.

On RoboMimic the demonstrations are several people's, as in QC and on FMQ's page. The tasks of that
page are ``PAGE``.
"""

import dataclasses

from flowpolicy.agents import FMQ, MVP
from flowpolicy.runs import registry
from flowpolicy.runs.methods import NOISY, Method, compared, controls, from_flows, objectives
from flowpolicy.runs.ogbench import NUMBERS, setting
from flowpolicy.runs.robomimic import RoboMimic
from flowpolicy.runs.tasks import OGBench
from flowpolicy.train.phases import RunConfig
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
OGBENCH = tuple(f"{env}-task{i}" for env in ENVIRONMENTS for i in NUMBERS)
"""OGBench tasks on which every method has a named run; ``OGBench(task=...)`` takes any other."""

NOISY_ENVIRONMENTS = (
    "cube-single-noisy",
    "cube-double-noisy",
    "cube-triple-noisy",
    "puzzle-4x4-noisy",
    "scene-noisy",
)
"""Noisy data of GFP's paper, for the methods in ``NOISY``."""

MORE = {
    "qc": ("cube-quadruple-play-100m",),
    "fql": ("antmaze-large", "antsoccer-arena", "humanoidmaze-large", "puzzle-4x4"),
    "qam": (
        "antmaze-large",
        "humanoidmaze-large",
        "cube-quadruple-play-100m",
        "puzzle-4x4-play-100m",
    ),
    "gfp": (
        "antmaze-large",
        "antmaze-large-stitch",
        "antmaze-large-explore",
        "antsoccer-arena",
        "antsoccer-arena-stitch",
        "humanoidmaze-large",
        "humanoidmaze-medium-stitch",
        "puzzle-4x4",
        *NOISY_ENVIRONMENTS,
    ),
}
"""By paper, environments of its tables beyond ``ENVIRONMENTS``, with words for their data where it
is not play or navigate: its methods have named runs on their tasks too."""

ROBOMIMIC = ("robomimic-lift", "robomimic-can", "robomimic-square")
"""RoboMimic's tasks of QC's paper; ``RoboMimic(task=...)`` takes two more."""

TASKS = (*OGBENCH, *ROBOMIMIC)
"""Tasks on which every method has a named run; ``tasks_of`` says which others one has."""

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


def task_of(task: str, paper: str) -> Task:
    """The task as ``paper`` has it."""
    if task in ROBOMIMIC:
        return RoboMimic(task.removeprefix("robomimic-"))
    return OGBench(task, timing="mixed", sparse=setting(paper, environment(task)).sparse)


def tasks_of(method: Method) -> tuple[str, ...]:
    """The tasks on which ``method`` has named runs: everybody's, then those of its paper alone."""
    more = (*MORE.get(method.paper, ()), *(NOISY_ENVIRONMENTS if method.name in NOISY else ()))
    return (*TASKS, *(f"{env}-task{i}" for env in dict.fromkeys(more) for i in NUMBERS))


def paper_run(method: Method, task: str) -> RunConfig:
    """``method`` on ``task`` with its paper's budget and rewards."""
    env = environment(task)
    return RunConfig(
        agent=method.agent(env),
        task=task_of(task, method.paper),
        phases=method.phases,
        batch=method.batch(env),
        draw=method.draw,
        evaluation=dataclasses.replace(method.trial, refiners=method.refiners),
    )


def register() -> None:
    """Every method on its tasks."""
    fmq = FMQ()
    for method in (*compared(fmq), *controls(fmq), *objectives(fmq, MVP()), *from_flows(fmq)):
        registry.add_family(
            method.name, method.summary, tasks_of(method),
            lambda task, method=method: paper_run(method, task),
        )  # fmt: skip
