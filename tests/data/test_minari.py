"""Minari's sets, made by its own collector: the episodes we read are those it reads."""

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from flowpolicy import parts
from flowpolicy.data import minari as sets
from flowpolicy.data.minari_header import D4RL, header
from flowpolicy.envs.gymnasium import make_gymnasium
from flowpolicy.errors import CorruptFile, InvalidConfig, InvalidData, MissingData, UnknownName
from flowpolicy.runs import Minari

minari = pytest.importorskip("minari")
h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.extras

PLAIN, ENTRIES = "test/plain-v0", "test/entries-v0"


class Goals(gymnasium.Env):
    """A Dict observation; the task is over after six steps, and pays for it."""

    observation_space = Dict(
        {"b": Box(-np.inf, np.inf, (2,), np.float64), "a": Box(-1, 1, (1, 2)), "n": Discrete(9)}
    )
    action_space = Box(np.float32([-1, 0]), np.float32([3, 5]))

    def _obs(self) -> dict[str, Any]:
        place = self.np_random.uniform(-1, 1, 2)
        return {"b": place, "a": np.float32([place]) / 2, "n": self._steps}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self._steps = 0
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self._steps += 1
        over = self._steps == 6
        return self._obs(), float(over), over, False, {"success": over}


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of sets: a pendulum of two whole episodes and a piece, and one with entries."""
    folder = tmp_path_factory.mktemp("sets")
    gymnasium.register("Goals-v0", f"{__name__}:Goals", max_episode_steps=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        _collect(gymnasium.make("Pendulum-v1", max_episode_steps=7), PLAIN, 17, (-1500.0, -100.0))
        _collect(gymnasium.make("Goals-v0"), ENTRIES, 14, (None, None))
        yield folder
    del gymnasium.registry["Goals-v0"]


def _collect(env: gymnasium.Env, name: str, steps: int, scores: Any) -> None:
    env = minari.DataCollector(env)
    env.action_space.seed(0)
    env.reset(seed=0)
    for step in range(steps):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if (terminated or truncated) and step < steps - 1:
            env.reset()
    lowest, highest = scores
    env.create_dataset(
        dataset_id=name, ref_min_score=lowest, ref_max_score=highest, eval_env=None,
        algorithm_name="random", author="a test", author_email="a@test", code_permalink="none",
        description="a test",
    )  # fmt: skip
    env.close()


def _seen(observations: Any, keys: tuple[str, ...]) -> np.ndarray:
    if not keys:
        return np.asarray(observations)
    return np.concatenate([observations[k].reshape(len(observations[k]), -1) for k in keys], -1)


@pytest.mark.parametrize(("name", "keys"), [(PLAIN, ()), (ENTRIES, ("b", "a")), (ENTRIES, ("a",))])
def test_the_rows_are_those_that_minari_reads(name: str, keys: tuple[str, ...]):
    """Every episode: observations before and after, scaled actions, rewards, ends."""
    theirs = minari.load_dataset(name)
    data = sets.load(name, keys=keys)
    box = theirs.action_space
    start = 0
    for episode in theirs.iterate_episodes():
        rows = slice(start, start + len(episode.rewards))
        start = rows.stop
        seen = _seen(episode.observations, keys).astype(np.float32)
        np.testing.assert_array_equal(data.rows.obs[rows], seen[:-1])
        np.testing.assert_array_equal(data.rows.next_obs[rows], seen[1:])
        unit = 2 * (episode.actions - box.low) / (box.high - box.low) - 1
        np.testing.assert_allclose(data.rows.action[rows], unit, atol=1e-6)
        np.testing.assert_array_equal(data.rows.reward[rows], np.float32(episode.rewards))
        np.testing.assert_array_equal(data.rows.terminated[rows], episode.terminations)
        ended = np.arange(len(seen) - 1) == len(seen) - 2
        np.testing.assert_array_equal(data.rows.ended[rows], ended)
    assert start == len(data) == theirs.total_steps
    assert data.episodes == theirs.total_episodes == 3
    assert data.rows.terminated.sum() == (0 if name == PLAIN else 2)
    assert (data.info["set"], data.info["source"]) == (name, "minari")


def test_the_environment_is_the_one_that_minari_recovers():
    """The same spaces and limit, and the same episode."""
    theirs = minari.load_dataset(PLAIN).recover_environment()
    ours = Minari(PLAIN).env()
    assert (ours.max_steps, ours.obs_shape) == (theirs.spec.max_episode_steps, (3,))
    first, _ = theirs.reset(seed=3)
    np.testing.assert_array_equal(ours.reset(3), first)
    step, (obs, reward, *_) = ours.step(np.full(1, 0.5)), theirs.step(np.float32([1.0]))
    np.testing.assert_array_equal(step.obs, obs)
    assert step.reward == pytest.approx(float(reward))


def test_rewards_are_shifted_in_the_rows_and_in_the_environment():
    """D4RL's rule for antmazes; the score does not see it."""
    plain, shifted = Minari(PLAIN), Minari(PLAIN, reward_shift=-1.0)
    rows = [task.dataset().rows.reward for task in (plain, shifted)]
    np.testing.assert_allclose(rows[1], rows[0] - 1, rtol=1e-6)
    paid = []
    for env in (plain.env(), shifted.env()):
        env.reset(0)
        paid.append(env.step(np.zeros(1)).reward)
    assert paid[1] == paid[0] - 1
    assert shifted.normalised(-807.0, 7.0) == plain.normalised(-800.0, 7.0) == 50.0


def test_scores_are_minari_s_times_a_hundred():
    """Without reference returns there are none."""
    theirs = minari.get_normalized_score(minari.load_dataset(PLAIN), np.array([-450.0]))
    assert Minari(PLAIN).normalised(-450.0, 7.0) == pytest.approx(100 * float(theirs[0]))
    assert Minari(PLAIN).dataset().info["ref_max_score"] == -100.0
    with pytest.raises(InvalidData, match="no reference returns"):
        Minari(ENTRIES, keys=("a",)).normalised(1.0, 6.0)


def test_a_task_is_data():
    """Written and read; D4RL's names are Minari's."""
    task = Minari("antmaze-umaze-v2", keys=("observation", "desired_goal"), reward_shift=-1.0)
    assert parts.parse(parts.describe(task)) == task
    assert task.name == "D4RL/antmaze/umaze-v1"
    assert Minari(PLAIN).playable
    assert len(set(D4RL.values())) == len(D4RL) == 37
    with pytest.raises(MissingData, match="minari download D4RL/antmaze/umaze-v1"):
        task.dataset()
    with pytest.raises(UnknownName, match="did you mean 'hopper-medium-v2'"):
        Minari("hopper-medium-replay-v2").dataset()
    for name in ("../secrets-v0", "/etc/x-v0", "a//b-v0", ""):
        with pytest.raises(UnknownName, match="unknown data set"):
            header(name)


@pytest.mark.parametrize(
    ("name", "keys", "kind", "message"),
    [
        (ENTRIES, (), InvalidData, "has the entries a, b; name those"),
        (ENTRIES, ("c",), UnknownName, "entry of test/entries-v0's observation 'c'"),
        (ENTRIES, ("n",), UnknownName, "'n'"),
        (PLAIN, ("a",), InvalidData, "observations have no entries"),
    ],
)
def test_entries_that_cannot_be_seen(name: str, keys: Any, kind: type, message: str):
    """Told by name."""
    with pytest.raises(kind, match=message):
        sets.load(name, keys=keys)


def _altered(root: Path, name: str, **change: Any) -> str:
    """A copy of the plain set with other metadata; None leaves a field out."""
    shutil.copytree(root / PLAIN, root / f"test/{name}-v0")
    path = root / f"test/{name}-v0/data/metadata.json"
    said = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    return f"test/{name}-v0"


SPEC = {"id": "Pendulum-v1", "entry_point": "os:system", "kwargs": {"command": "true"}}
BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-2.0], "high": [2.0]}
METADATA = {
    "arrow": ({"data_format": "arrow"}, InvalidData, "data_format must be 'hdf5', got 'arrow'"),
    "no-space": ({"action_space": None}, CorruptFile, "action_space is missing"),
    "no-json": ({"action_space": "{"}, CorruptFile, "action_space is not readable as JSON"),
    "discrete": ({"action_space": '{"type": "Discrete"}'}, InvalidData, "Box of floats"),
    "unbounded": (
        {"action_space": json.dumps({**BOX, "low": [-np.inf]})}, InvalidData, "finite bounds",
    ),
    "odd-shape": (
        {"action_space": json.dumps({**BOX, "shape": [2]})}, CorruptFile, "low has shape",
    ),
    "text": ({"observation_space": '{"type": "Text"}'}, InvalidData, "must be a Box, or a Dict"),
    "count": ({"total_episodes": "3"}, CorruptFile, "total_episodes must be a whole number"),
    "no-count": ({"total_steps": None}, CorruptFile, "total_steps"),
    "spec": ({"env_spec": "[1]"}, CorruptFile, "expected a JSON object"),
    "wrappers": (
        {"env_spec": json.dumps({**SPEC, "additional_wrappers": [{"name": "x"}]})},
        InvalidData, "asks for wrappers",
    ),
    "more-steps": ({"total_steps": 18}, CorruptFile, "has 17 steps, and metadata.json says 18"),
    "more-episodes": ({"total_episodes": 4}, CorruptFile, "main_data.hdf5: episode_3 is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_lie(case: str, root: Path):
    """The file, the field and the reason."""
    change, kind, message = METADATA[case]
    with pytest.raises(kind, match=message):
        sets.load(_altered(root, case, **change))


def test_the_environment_a_file_names_is_not_imported(root: Path):
    """Not under a known name either; nor is one that is not registered."""
    task = Minari(_altered(root, "other", env_spec=json.dumps(SPEC)))
    with pytest.raises(InvalidConfig, match="its Pendulum-v1 is os:system, which is gymnasium"):
        task.env()
    task = Minari(_altered(root, "none", env_spec=json.dumps({**SPEC, "id": "os:Evil-v0"})))
    with pytest.raises(UnknownName, match="unknown environment 'os:Evil-v0'"):
        task.env()
    task = Minari(_altered(root, "without", env_spec=None))
    assert not task.playable
    with pytest.raises(MissingData, match="names no environment"):
        task.env()


def _first(file: Any) -> Any:
    return file["episode_0"]


def _replaced(name: str, value: Any) -> Any:
    def change(file: Any) -> None:
        del _first(file)[name]
        _first(file)[name] = value

    return change


FILES = {
    "link": (_replaced("rewards", h5py.ExternalLink("other.hdf5", "/x")), "episode_0/rewards is a"),
    "soft": (_replaced("actions", h5py.SoftLink("/episode_1/actions")), "episode_0/actions is a"),
    "gone": (lambda file: _first(file).__delitem__("rewards"), "episode_0/rewards is missing"),
    "words": (_replaced("rewards", [b"a"] * 7), "must hold plain numbers"),
    "flags": (_replaced("truncations", np.full(7, 2)), "must hold flags, 0 or 1"),
    "short": (_replaced("rewards", np.zeros(6)), r"7 actions, but rows .*'reward': 6"),
    "equal": (_replaced("observations", np.zeros((7, 3))), r"7 actions, but rows .*'obs': 6"),
    "empty": (lambda file: file.__delitem__("episode_2"), "episode_2 is missing"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_lie(case: str, root: Path):
    """The file, the member and the reason; nothing outside the file is read."""
    name = _altered(root, f"file-{case}")
    change, message = FILES[case]
    with h5py.File(root / name / "data" / sets.MAIN, "a") as file:
        change(file)
    with pytest.raises(CorruptFile, match=rf"main_data\.hdf5: .*{message}"):
        sets.load(name)


@pytest.mark.parametrize("keep", [0, 100, 4000, -50])
def test_a_file_that_was_cut(keep: int, root: Path):
    """Refused, and left as it is."""
    name = _altered(root, f"cut{keep}")
    path = root / name / "data" / sets.MAIN
    content = path.read_bytes()[:keep]
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"main_data\.hdf5"):
        sets.load(name)
    assert path.read_bytes() == content


def test_values_that_are_not_finite(root: Path):
    """What training would refuse is refused here."""
    name = _altered(root, "nan")
    with h5py.File(root / name / "data" / sets.MAIN, "a") as file:
        _first(file)["observations"][3, 1] = np.nan
    with pytest.raises(InvalidData, match="obs is NaN or infinite in 1 row"):
        sets.load(name)


def test_an_episode_that_says_no_end_ends_where_its_rows_do(root: Path):
    """As a time-out: the next row is of another trajectory, and the value goes on."""
    name = _altered(root, "endless")
    with h5py.File(root / name / "data" / sets.MAIN, "a") as file:
        _first(file)["truncations"][:] = False
    rows = sets.load(name).rows
    np.testing.assert_array_equal(np.flatnonzero(rows.ended), [6, 13, 16])
    assert not rows.terminated.any()


def test_actions_outside_the_box_are_clipped_and_counted(root: Path):
    """Two rows of three are beyond it by more than rounding."""
    name = _altered(root, "beyond")
    with h5py.File(root / name / "data" / sets.MAIN, "a") as file:
        _first(file)["actions"][:3, 0] = 2.0 + 1e-6, 2.5, -9.0
    data = sets.load(name)
    np.testing.assert_array_equal(data.rows.action[:3, 0], [1, 1, -1])
    assert data.info["clipped_rows"] == 2
    assert sets.load(PLAIN).info["clipped_rows"] == 0


def test_gymnasium_is_what_a_set_is_played_in():
    """Nothing but the registered environment, with the set's arguments."""
    assert type(Minari(PLAIN).env()) is type(make_gymnasium("Pendulum-v1"))
