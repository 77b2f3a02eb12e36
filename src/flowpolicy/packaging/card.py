"""The model card: ``README.md`` of a package, with the front matter that the hub reads."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from flowpolicy.deploy.units import RECORD
from flowpolicy.errors import InvalidConfig
from flowpolicy.report.statistics import Interval


class Success(NamedTuple):
    """Solved episodes, episodes, and Wilson's 95 % interval of the rate."""

    solved: int
    episodes: int
    interval: Interval

    @property
    def rate(self) -> float:
        """Share of solved episodes."""
        return self.solved / self.episodes


def check_licence(licence: str) -> None:
    """``InvalidConfig`` unless it is empty or looks like an identifier of the hub."""
    if licence and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", licence):
        raise InvalidConfig(
            f"licence must be an identifier as the hub has them (mit, apache-2.0), got {licence!r}"
        )


def card(
    config: dict[str, Any], record: dict[str, Any], success: Success | None, licence: str
) -> str:
    """The card's text. ``config`` is the package's, ``record`` the run's ``config.json``."""
    lines = ["---", *_front(config, success, licence), "---", "", *_body(config, record, success)]
    said = f"Licence: {licence}." if licence else "No licence was stated."
    return "\n".join([*lines, "", said, ""])


def _front(config: dict[str, Any], success: Success | None, licence: str) -> Iterator[str]:
    """YAML; every text is written as JSON has it, which YAML reads as text and nothing else."""
    task = json.dumps(config["source"]["task"])
    if licence:
        yield f"license: {json.dumps(licence)}"
    yield "library_name: flowpolicy"
    yield "pipeline_tag: reinforcement-learning"
    yield "tags:"
    for tag in ("reinforcement-learning", "robotics", "flow-matching", config["agent"]["part"]):
        yield f"- {json.dumps(tag)}"
    if success is None:
        return
    yield "model-index:"
    yield f"- name: {json.dumps(config['source']['run'] or config['agent']['part'])}"
    yield "  results:"
    yield "  - task:"
    yield "      type: reinforcement-learning"
    yield f"    dataset:\n      name: {task}\n      type: {task}"
    yield "    metrics:"
    yield f"    - type: success_rate\n      value: {success.rate:.4f}"


def _body(config: dict[str, Any], record: dict[str, Any], success: Success | None) -> Iterator[str]:
    source, agent = config["source"], config["agent"]["part"]
    yield f"# {agent} on {source['task'] or 'own data'}"
    yield ""
    yield from _told(config, record, success)
    yield "\n## What goes in\n"
    yield "| field | entries | shape | type | unit |"
    yield "|---|---|---|---|---|"
    for field in config["observation"]["fields"]:
        for entry in field["entries"]:
            yield (
                f"| {field['name']} | {entry['name']} ({entry['size']}) | {field['shape']} | "
                f"{field['dtype']} | {entry['unit']} |"
            )
    yield (
        "\nRaw observations: the normaliser, where there is one, is inside. Values that are not "
        "finite are refused.\n"
    )
    action, interval = config["action"], config["control_interval_s"]
    yield "## What comes out\n"
    box = f"in [{action['low']:g}, {action['high']:g}]"
    yield (
        f"A chunk of {config['chunk']} actions of {action['size']} numbers "
        f"{'in the units of its data' if RECORD in action else box}, to be executed one after the "
        "other" + (f", every {interval:g} s." if interval else "; the control interval is unknown.")
    )
    if RECORD in action:
        shift, scale = (action[RECORD][name] for name in ("shift", "scale"))
        yield (
            f"\nThey are shift + scale * box, entry by entry, with shift {shift} and scale "
            f"{scale}. The box, in which the policy itself computes, is {box[3:]} "
            "(`Policy.in_box`)."
        )
    yield "\n## How to load it\n"
    yield "```python\nfrom flowpolicy import Policy\n"
    yield 'policy = Policy.load("FOLDER", backend="numpy")  # or backend="jax"'
    yield "chunk = policy.act(observation)  # (horizon, action_size)\n```"


def _told(config: dict[str, Any], record: dict[str, Any], success: Success | None) -> Iterator[str]:
    """Task, data, method, success, versions."""
    source = config["source"]
    yield f"- Task: {source['task'] or 'unknown'}"
    data = record.get("data") or {}
    told = ", ".join(f"{k} {v}" for k, v in data.items() if isinstance(v, str | int))
    yield f"- Data: {told or 'none, or not told'}"
    refined = config["refiner"]
    yield f"- Method: {config['agent']['part']}, acting with " + (
        "its own refiner" if refined is None else f"`{json.dumps(refined)}`"
    )
    yield (
        f"- Trained: {source['updates']} updates, {source['env_steps']} environment steps, seed "
        f"{source['seed']}, run `{source['run'] or 'unnamed'}`"
    )
    if success is None:
        yield "- Success: this policy was not evaluated at this checkpoint"
    else:
        low, high = success.interval
        yield (
            f"- Success: {success.rate:.3f} ({success.solved} of {success.episodes} episodes of "
            f"this seed; 95 % interval {low:.3f} to {high:.3f}, Wilson)"
        )
    versions = source["versions"]
    yield "- Versions: " + (", ".join(f"{k} {v}" for k, v in versions.items()) or "unknown")
