"""Checkpoints: what was written comes back to the bit, what was altered is refused by name."""

import hashlib
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowpolicy as fp
from flowpolicy.errors import CorruptFile, MissingData
from flowpolicy.train import checkpoint
from flowpolicy.train.folder import RunFolder
from flowpolicy.train.keeper import Keeper


def _tree():
    """Leaves of many kinds, with both kinds of keys."""
    return {
        "float": jnp.array([1.5, -0.0, 1e-38]),
        "scalar": jnp.float32(3),
        "count": jnp.int32(7),
        "flag": jnp.array([True, False]),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2),
        "turned": jnp.arange(6.0).reshape(2, 3).T,
        "pair": (jnp.zeros((0, 2)), jnp.uint8(5)),
    }


def _equal(a, b):
    def data(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    return all(x.dtype == y.dtype and np.array_equal(data(x), data(y)) for x, y in pairs)


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints of one tree."""
    for name in ("step-1", "step-2"):
        checkpoint.save(tmp_path / name, _contents(updates=5, who=name), keep=2)
    return tmp_path


def _contents(**meta):
    more = {"row": np.arange(3)}
    meta = {"updates": 5, "online": False, "env_steps": []} | meta
    return checkpoint.Contents(checkpoint.to_arrays(_tree()), more, meta)


def _usable(path, contents):
    return path.name, contents.meta["who"]


def test_the_round_trip_is_exact(saved):
    """Bits, shapes, dtypes, typed keys with their implementation, and the meta data."""
    found = checkpoint.read(saved / "step-2")
    back = checkpoint.from_arrays(jax.eval_shape(_tree), found.state, "here")
    assert found.loop["row"].tolist() == [0, 1, 2]
    assert _equal(back, _tree())
    assert jax.random.key_impl(back["keys"]) == "rbg"
    assert np.signbit(np.asarray(back["float"])[1])
    told = {"updates": 5, "who": "step-2", "online": False, "env_steps": []}
    assert found.meta == {"format": 3, **told}
    draw = jax.random.normal(back["key"])
    assert draw == jax.random.normal(jax.random.key(3))


FILES = ["state.safetensors", "loop.safetensors", "meta.json", "manifest.json"]


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_anywhere_is_refused_by_name(saved, file):
    """In 40 places of each file; the message names the file, and the one before it is taken."""
    path = saved / "step-2" / file
    good = path.read_bytes()
    for at in np.random.default_rng(0).choice(len(good), 40):
        bad = bytearray(good)
        bad[at] ^= 1 << int(at % 8)
        path.write_bytes(bytes(bad))
        taken, refused = checkpoint.newest(saved, _usable)
        assert taken == ("step-1", "step-1")
        ((which, why),) = refused
        assert which == saved / "step-2"
        assert str(which) in why
    path.write_bytes(good)
    checkpoint.read(saved / "step-2")


@pytest.mark.parametrize("file", FILES)
def test_a_cut_or_missing_file_is_refused(saved, file):
    """Truncated, empty, gone, a link; where none is left every reason is given."""
    path = saved / "step-1" / file
    good = path.read_bytes()
    for bad in (good[:-1], good[: len(good) // 2], b""):
        path.write_bytes(bad)
        with pytest.raises(CorruptFile, match=str(path)):
            checkpoint.read(saved / "step-1")
    path.unlink()
    with pytest.raises(MissingData, match=file):
        checkpoint.read(saved / "step-1")
    (saved / "elsewhere").write_bytes(good)
    path.symlink_to(saved / "elsewhere")
    with pytest.raises(CorruptFile, match=file):
        checkpoint.read(saved / "step-1")
    (saved / "step-2" / "meta.json").write_text("{}")
    with pytest.raises(CorruptFile, match=r"can be used: .*step-2.*step-1"):
        checkpoint.newest(saved, _usable)


def test_another_format_or_manifest_is_refused(saved):
    """A newer format, and a manifest that names other files, such as ones outside the folder."""
    path = saved / "step-2" / "manifest.json"
    record = json.loads(path.read_text())
    for change, what in (
        ({"format": 4}, "format 4"),
        ({"format": 3.0}, r"format 3\.0"),
        ({"format": True}, "format True"),
        ({"sha256": {"../x": "0"}}, "other files"),
    ):
        path.write_text(json.dumps({**record, **change}))
        with pytest.raises(CorruptFile, match=what):
            checkpoint.read(saved / "step-2")


@pytest.mark.parametrize(
    "odd",
    [{"updates": -1}, {"updates": 1.0}, {"online": 1}, {"env_steps": [True]}, {"env_steps": 3}],
)
def test_what_a_checkpoint_says_has_its_types(tmp_path, odd):
    """Hashes agree, and still it is no checkpoint."""
    checkpoint.save(tmp_path / "step-1", _contents(**odd), keep=2)
    with pytest.raises(CorruptFile, match=r"meta\.json: updates and env_steps must be"):
        checkpoint.read(tmp_path / "step-1")


def test_state_that_does_not_fit_is_refused(saved):
    """Other leaves, another shape, another dtype, values that are not finite."""
    arrays = checkpoint.read(saved / "step-2").state
    skeleton = jax.eval_shape(_tree)
    with pytest.raises(CorruptFile, match="other leaves"):
        checkpoint.from_arrays({**skeleton, "more": skeleton["scalar"]}, arrays, "here")
    for leaf in (jnp.zeros(4), jnp.zeros(3, jnp.int32)):
        with pytest.raises(CorruptFile, match=r"'float'.*must be"):
            checkpoint.from_arrays({**skeleton, "float": leaf}, arrays, "here")
    name = next(n for n in arrays if "float" in n)
    for odd in ("key<", "key<none>:['key']", "key<fry"):
        other = {odd if "'key'" in n else n: value for n, value in arrays.items()}
        with pytest.raises(CorruptFile, match=r"no key|other leaves"):
            checkpoint.from_arrays(skeleton, other, "here")
    with pytest.raises(CorruptFile, match="is float64"):
        checkpoint.from_arrays(skeleton, {**arrays, name: arrays[name].astype(float)}, "here")
    broken = {**arrays, name: np.array([1, np.nan, 2], np.float32)}
    with pytest.raises(CorruptFile, match="not finite"):
        checkpoint.from_arrays(skeleton, broken, "here")


def test_the_newest_stay_and_a_taken_name_gets_a_number(saved):
    """Oldest first, temporary folders are not checkpoints, nothing is exchanged in place."""
    inode = os.stat(saved / "step-2").st_ino
    name = checkpoint.free_name(saved, "step-2")
    checkpoint.save(saved / name, _contents(who="again"), keep=2)
    (saved / ".step-9.1.tmp").mkdir()
    assert [p.name for p in checkpoint.checkpoints(saved)] == ["step-2", "step-2.001"]
    assert os.stat(saved / "step-2").st_ino == inode
    assert checkpoint.read(saved / "step-2.001").meta["who"] == "again"
    checkpoint.save(saved / "step-3", _contents(), keep=1)
    assert [p.name for p in checkpoint.checkpoints(saved)] == ["step-3"]


def test_the_newest_best_state_stays_though_an_older_one_has_a_larger_number(tmp_path):
    """A run that went back comes by a best state at fewer updates than the one it had."""
    better, again = _contents(success=0.8), _contents(success=0.5)
    keeper = Keeper(RunFolder(tmp_path), [], keep=1)
    keeper.save_best("step-000000500", better)
    keeper.save_best("step-000000450", again)
    keeper.wait()
    keeper.close()
    (path,) = checkpoint.checkpoints(tmp_path / "best")
    assert path.name == "step-000000450"
    assert checkpoint.read(path).meta["success"] == 0.5


def test_json_is_strict():
    """No NaN; what is read is as strict (tests/readers)."""
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.to_json({"x": float("nan")})


def test_a_run_with_an_altered_checkpoint_uses_the_one_before(run, tmp_path):
    """With a warning that names the file; where every one is altered, nothing is loaded."""
    shutil.copytree(run.path, tmp_path / "r")
    paths = checkpoint.checkpoints(tmp_path / "r" / "checkpoints")
    for left, path in ((1, paths[-1]), (0, paths[0])):
        data = bytearray((path / "state.safetensors").read_bytes())
        data[-1] ^= 1
        (path / "state.safetensors").write_bytes(bytes(data))
        if left:
            with pytest.warns(UserWarning, match="passed over.*SHA-256 differs"):
                _, meta = fp.Run(tmp_path / "r").load()
            assert f"step-{meta['updates']:09d}" == paths[0].name
    for load in (fp.Policy.load, fp.evaluate):
        with pytest.raises(CorruptFile, match=r"SHA-256 differs.*step-000000020"):
            load(tmp_path / "r")


def test_a_checkpoint_of_the_first_format_still_acts(run, tmp_path):
    """It had no arrays of the loop; a policy is made of it, and going on is refused."""
    shutil.copytree(run.path, tmp_path / "r")
    for path in checkpoint.checkpoints(tmp_path / "r" / "checkpoints"):
        (path / "loop.safetensors").unlink()
        meta = json.loads((path / "meta.json").read_text())
        meta = {k: meta[k] for k in ("updates", "online", "env_steps")} | {"format": 1}
        (path / "meta.json").write_text(json.dumps(meta))
        hashes = {
            name: hashlib.sha256((path / name).read_bytes()).hexdigest()
            for name in ("state.safetensors", "meta.json")
        }
        (path / "manifest.json").write_text(json.dumps({"format": 1, "sha256": hashes}))
    (tmp_path / "r" / "status.json").unlink()
    assert fp.Policy.load(tmp_path / "r").act([0.5, 0.5]).shape == (2, 2)
    with pytest.raises(CorruptFile, match="could not go on"):
        fp.resume(tmp_path / "r")


def test_a_configuration_that_changed_does_not_take_the_state(run, tmp_path):
    """A wider net in config.json: that is said, and where it carries no sum the leaf is named."""
    shutil.copytree(run.path, tmp_path / "r")
    path = tmp_path / "r" / "config.json"
    text = path.read_text().replace('"width": 8', '"width": 9')
    path.write_text(text)
    with pytest.raises(CorruptFile, match=r"config\.json was changed after it was written"):
        fp.Run(tmp_path / "r").load()
    record = json.loads(text)
    path.write_text(json.dumps({**record, "format": 1}))
    with pytest.raises(CorruptFile, match="must be float32"):
        fp.Run(tmp_path / "r").load()


def test_a_configuration_of_which_no_agent_can_be_made(run, tmp_path):
    """Sound as JSON and as parts: a number where a net belongs."""
    shutil.copytree(run.path, tmp_path / "r")
    path = tmp_path / "r" / "config.json"
    record = json.loads(path.read_text())
    record["format"] = 1  # which had no sum of its own
    record["config"]["agent"]["actor"] = 3
    path.write_text(json.dumps(record))
    with pytest.raises(fp.FlowPolicyError, match=r"config\.json|actor"):
        fp.Run(tmp_path / "r").load()


def test_a_folder_without_a_run_or_checkpoint(tmp_path, run):
    """What is missing is said."""
    with pytest.raises(MissingData, match="no run folder"):
        fp.Policy.load(tmp_path / "nowhere")
    shutil.copytree(run.path, tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "checkpoints")
    with pytest.raises(MissingData, match="no checkpoint"):
        fp.Policy.load(tmp_path / "r")
