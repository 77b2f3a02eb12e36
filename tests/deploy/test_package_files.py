"""A package is what its manifest says, and what its configuration and program agree on."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
from threadpoolctl import threadpool_info, threadpool_limits

import flowpolicy as fp
from flowpolicy.deploy.files import manifest
from flowpolicy.deploy.program import Program
from flowpolicy.errors import CorruptFile, FlowPolicyError, InvalidConfig, MissingData, UnknownName

FILES = ("README.md", "config.json", "manifest.json", "model.safetensors", "program.json")
BACKENDS = ("jax", "numpy")


@pytest.fixture
def copy(packaged, tmp_path):
    """A package to break."""
    return shutil.copytree(packaged, tmp_path / "p")


def seal(folder):
    """Writes a manifest that fits what is there: whoever changes a file can do that."""
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}
    (folder / "manifest.json").write_bytes(manifest(files))


def edit(folder, name, change):
    """Changes a JSON file and seals the package again."""
    data = json.loads((folder / name).read_text())
    changed = change(data)
    (folder / name).write_text(json.dumps(data if changed is None else changed))
    seal(folder)


def tensors(folder, change):
    """Changes the tensors and seals the package again."""
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    change(arrays)
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save(arrays))
    seal(folder)


def refuses(folder, what, error=CorruptFile, backends=BACKENDS):
    """Neither back end loads it, and the error says what is wrong."""
    for backend in backends:
        with pytest.raises(error, match=what):
            fp.Policy.load(folder, backend=backend)


def test_it_is_the_run_s_policy(trained, packaged, seen):
    """Either back end, the same noise call by call, memory and normaliser inside."""
    for seed in (0, 7):
        run = fp.Policy.load(trained.path, seed_index=1, seed=seed)
        for backend in BACKENDS:
            policy = fp.Policy.load(packaged, backend=backend, seed=seed)
            assert (policy.obs_shape, policy.action_size) == (run.obs_shape, run.action_size)
            for obs in seen[:3]:
                chunk = policy.act(obs)
                assert (chunk.shape, chunk.dtype) == ((2, 2), np.float32)
            policy = fp.Policy.load(packaged, backend=backend, seed=seed)
            policy.warm_up()
            run = fp.Policy.load(trained.path, seed_index=1, seed=seed)
            for obs in seen:
                np.testing.assert_allclose(policy.act(obs), run.act(obs), atol=1e-5)


def test_a_session_and_its_checks_are_the_same(packaged, seen):
    """Chunks are cut, observations checked, by the one front."""
    sessions = [fp.Policy.load(packaged, backend=b).session(1) for b in BACKENDS]
    for obs in seen:
        first, second = (session(obs) for session in sessions)
        np.testing.assert_allclose(first, second, atol=1e-5)
    for session in sessions:
        session.reset()
        with pytest.raises(FlowPolicyError, match="fields"):
            session({"arm": np.zeros(3)})
        with pytest.raises(FlowPolicyError, match=r"obs\['arm'\] must be finite"):
            session({**seen[0], "arm": [0, np.nan, 0]})


def test_only_what_acting_reads_is_in_it(packaged):
    """No optimiser, no target network; the critic because it ranks."""
    names = set(safetensors.numpy.load_file(packaged / "model.safetensors"))
    assert any(name.startswith("agent.critic.online") for name in names)
    assert {n for n in names if n.startswith("normaliser")} == {
        f"normaliser.{a}.{b}" for a in ("shift", "scale") for b in ("arm", "cup")
    }
    assert not any("target" in name or "opt_state" in name for name in names)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found(copy, name):
    """In every file, the manifest's own included."""
    path = copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refuses(copy, r"(\.json|\.safetensors|\.md)\b")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy, name):
    """Also where the manifest is."""
    (copy / name).unlink()
    refuses(copy, name.replace(".", r"\."), MissingData)


def test_what_does_not_belong_is_named(copy, packaged):
    """A further file, links, names with a path, folders; the hub's own files are passed over."""
    (copy / ".gitattributes").write_text("")
    fp.Policy.load(copy, backend="numpy")
    (copy / "run.py").write_text("print('hello')")
    refuses(copy, r"run\.py is not in the manifest")
    (copy / "run.py").unlink()
    (copy / "README.md").unlink()
    os.symlink(packaged / "README.md", copy / "README.md")
    refuses(copy, "symbolic link")
    (copy / "README.md").unlink()
    (copy / "README.md").mkdir()
    refuses(copy, "directory")
    (copy / "README.md").rmdir()
    os.mkfifo(copy / "README.md")
    refuses(copy, "not a regular file")
    (copy / "README.md").unlink()
    told = json.loads((copy / "manifest.json").read_text())
    told["sha256"]["../../secret"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(told))
    refuses(copy, "names other files")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("prefix", ["agent.actor", "normaliser.scale"])
def test_numbers_that_are_not_finite_are_refused(copy, value, prefix):
    """In weights and normalisers, though the manifest fits."""

    def spoil(arrays):
        name = next(n for n in arrays if n.startswith(prefix))
        arrays[name].reshape(-1)[-1] = value

    tensors(copy, spoil)
    refuses(copy, "not finite")


def test_tensors_of_another_shape_are_refused(copy):
    """A weight transposed, of another type, missing, or too many."""
    name = "agent.actor.model.net.mlp.last.weight"
    original = safetensors.numpy.load_file(copy / "model.safetensors")[name]
    for value in (np.ascontiguousarray(original.T), original.astype(np.float64)):
        tensors(copy, lambda arrays, value=value: arrays.update({name: value}))
        refuses(copy, "mlp.last.weight")
    tensors(copy, lambda arrays: arrays.pop(name))
    refuses(copy, "mlp.last.weight", (CorruptFile, InvalidConfig))
    tensors(copy, lambda arrays: arrays.update({name: original, "agent.more": original}))
    refuses(copy, "agent.more", backends=("jax",))


def test_a_program_is_held_to_the_configuration(copy):
    """Steps that are not known, shapes of 4 TiB, other inputs: refused as a corrupt file."""
    for change, what in (
        (lambda d: d["body"]["steps"][0].__setitem__(0, "import_module"), "none of the steps"),
        (lambda d: d["body"]["values"][-1].__setitem__(1, [2**21, 2**21]), "at most"),
        (lambda d: d["inputs"].__setitem__(0, "secret"), "other inputs"),
        (lambda d: d["outputs"].__setitem__(0, "other"), "other outputs"),
        (lambda d: d["inputs"].__setitem__(0, ["key"]), "distinct names"),
        (lambda d: d["outputs"].__setitem__(0, 3), "distinct names"),
        (lambda d: d["inputs"].__setitem__(1, "key"), "distinct names"),
        (lambda d: d.__delitem__("body"), "exactly"),
    ):
        before = (copy / "program.json").read_bytes()
        edit(copy, "program.json", change)
        refuses(copy, what, backends=("numpy",))
        (copy / "program.json").write_bytes(before)
    for text, what in (("[" * 10_000, "nested|JSON"), ('{"a": NaN}', "JSON|NaN"),
                       ('{"a": 1, "a": 2}', "twice")):  # fmt: skip
        (copy / "program.json").write_text(text)
        seal(copy)
        refuses(copy, what)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: d.update(format=2), "format 1"),
        (lambda d: d.__delitem__("online"), "online"),
        (lambda d: d.update(more=1), "more"),
        (lambda d: d.update(chunk=0), "chunk"),
        (lambda d: d.update(chunk=1), "chunk must be the agent's, 2, got 1|other outputs"),
        (lambda d: d["action"].update(size=3), r"action\.size must be spec\.action, got 3"),
        (lambda d: d.update(spec=3), r"action\.size must be spec\.action"),
        (lambda d: d.update(chunk=True), "chunk"),
        (lambda d: d["action"].update(size="2"), "action.size"),
        (lambda d: d.update(observation=[]), "observation"),
        (lambda d: d["observation"].update(fields=3), "fields"),
        (lambda d: d["observation"]["fields"][0].update(shape=[2**40]), "entries"),
        (lambda d: d["observation"]["fields"][0].update(name="cup"), "distinct"),
        (lambda d: d["observation"].update(mapping=False), "mapping"),
        (lambda d: d["observation"]["fields"][0].update(shape=[4]), "inputs|shapes"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(copy, change, what):
    """By both back ends, with the file's name."""
    edit(copy, "config.json", change)
    refuses(copy, what)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: d.update(agent=5), "agent must be an agent's configuration, got 5"),
        (lambda d: d.update(agent={"part": "adam"}), "an agent's configuration, got Adam"),
        (lambda d: d["agent"].update(actor={"part": "adam"}), r"config\.json: agent: "),
        (lambda d: d.update(refiner=5), r"config\.json: refiner must be one, .* got 5"),
        (lambda d: d.update(refiner={"part": "minimum"}), r"config\.json: refiner must be one"),
    ],
)
def test_parts_that_cannot_be_an_agent_are_refused(copy, change, what):
    """By JAX, which builds it."""
    edit(copy, "config.json", change)
    refuses(copy, what, backends=("jax",))


def test_unknown_parts_are_errors_of_ours(copy):
    """An agent that is not registered is told by name; numpy does not need it."""
    edit(copy, "config.json", lambda d: d["agent"].update(part="mine"))
    refuses(copy, "unknown part 'mine'", FlowPolicyError, backends=("jax",))
    fp.Policy.load(copy, backend="numpy")


def test_refiners_and_seeds_that_a_package_does_not_hold(trained, packaged, seen, tmp_path):
    """Another refiner acts with JAX where it reads no more than there is."""
    single = fp.package(trained, tmp_path / "single", refiner=fp.one_step())
    wanted = fp.Policy.load(trained.path, refiner=fp.one_step()).act(seen[0])
    for backend in BACKENDS:
        acted = fp.Policy.load(single, backend=backend).act(seen[0])
        np.testing.assert_allclose(acted, wanted, atol=1e-5)
    again = fp.Policy.load(packaged, refiner=fp.one_step()).act(seen[0])
    run = fp.Policy.load(trained.path, seed_index=1, refiner=fp.one_step())
    np.testing.assert_allclose(again, run.act(seen[0]), atol=1e-5)
    with pytest.raises(InvalidConfig, match="not in the package"):
        fp.Policy.load(single, refiner=fp.best_of_n(n=4))
    with pytest.raises(InvalidConfig, match="refiner that was packaged"):
        fp.Policy.load(packaged, backend="numpy", refiner=fp.one_step())
    with pytest.raises(InvalidConfig, match="seed_index must be 0"):
        fp.Policy.load(packaged, seed_index=1)
    with pytest.raises(InvalidConfig, match="runs packages"):
        fp.Policy.load(trained.path, backend="numpy")
    with pytest.raises(UnknownName, match="numpy"):
        fp.Policy.load(packaged, backend="nmpy")
    with pytest.raises(InvalidConfig, match=r"backend=.jax."):
        _ = fp.Policy.load(packaged, backend="numpy").agent


ALONE = """
import sys
for name in ("jax", "jaxlib", "equinox", "optax", "jaxtyping", "gymnasium", "mujoco", "ogbench",
             "matplotlib", "tyro", "rich"):
    sys.modules[name] = None
import json
from flowpolicy import Policy
policy = Policy.load(sys.argv[1], backend="numpy", seed=7)
print(json.dumps([policy.act({"arm": [1, 2, 3], "cup": [[0, 1], [1, 0]]}).tolist()
                  for _ in range(3)]))
"""


def test_no_jax_on_the_robot(packaged):
    """With numpy, safetensors and threadpoolctl alone: the actions of the JAX back end here."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(packaged)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    policy = fp.Policy.load(packaged, seed=7)
    wanted = [policy.act({"arm": [1, 2, 3], "cup": [[0, 1], [1, 0]]}) for _ in range(3)]
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), wanted, atol=1e-5)


def test_numpy_acts_on_one_thread(packaged, monkeypatch):
    """Whatever number it would take by itself, which it takes again afterwards."""
    policy = fp.Policy.load(packaged, backend="numpy")
    made, seen = Program.__call__, []

    def call(self, *inputs):
        seen.append(blas_threads())
        return made(self, *inputs)

    monkeypatch.setattr(Program, "__call__", call)
    with threadpool_limits(2, user_api="blas"):
        policy.act({"arm": [1, 2, 3], "cup": [[0, 1], [1, 0]]})
        assert (seen, blas_threads()) == ([{1}], {2})


def blas_threads():
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}
