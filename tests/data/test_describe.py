"""What a data set is told to hold, against counts made by hand; and what forbids training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.own_files import LENGTHS, write_own_npz
from flowpolicy.cli import main
from flowpolicy.data import check
from flowpolicy.data.actions import ActionMinMax
from flowpolicy.data.check import examine
from flowpolicy.data.describe import describe
from flowpolicy.data.recording import Recording
from flowpolicy.errors import InvalidConfig
from flowpolicy.report.data_html import write_data_page


def _recording(**change: Any) -> Recording:
    """Trajectories of 4, 3 and 4 rows; the last one repeats the first, row by row."""
    action = np.array([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7], [0.1], [0.2], [0.3], [0.4]])
    arrays = {
        "obs": np.hstack([action, action * 2]),
        "action": action,
        "reward": np.array([0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 1.0]),
        "terminated": np.zeros(11, bool),
        "ended": np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1], bool),
    }
    return Recording(**{**arrays, **change})


def test_lengths_returns_and_chunks():
    told = describe(_recording(next_obs=np.zeros((11, 2))), horizons=(1, 3, 4, 5))
    assert told.lengths == told.kept == (4, 3, 4)
    assert told.returns == (1.0, 2.0, 1.0)
    assert [fit.share for fit in told.chunks] == [1.0, 5 / 11, 2 / 11, 0.0]
    assert [fit.short_episodes for fit in told.chunks] == [0, 0, 1, 3]
    assert told.columns["obs"].low == (0.1, 0.2)
    assert told.columns["obs"].high == (0.7, 1.4)


def test_chunks_are_of_the_rows_that_are_trained_on():
    """Two trajectories lose their last row, the one that terminates does not."""
    told = describe(_recording(terminated=np.arange(11) == 6), horizons=(3, 4))
    assert (told.lengths, told.kept) == ((4, 3, 4), (3, 3, 3))
    assert [fit.share for fit in told.chunks] == [3 / 9, 0.0]
    assert [fit.short_episodes for fit in told.chunks] == [0, 3]


def test_a_file_that_breaks_off_ends_a_trajectory():
    assert describe(_recording(ended=np.arange(11) == 3)).lengths == (4, 7)


def test_success_is_what_is_told_or_else_a_termination():
    assert describe(_recording()).tells_success is False
    done = np.arange(11) == 6
    told = describe(_recording(terminated=done))
    assert (told.succeeded, told.tells_success) == (1, True)
    told = describe(_recording(terminated=done, success=np.zeros(11, bool)))
    assert (told.succeeded, told.tells_success) == (0, True)


def test_rewards_that_are_dropped_are_told():
    """The last rows have no successor; with one, or where they terminate, they stay."""
    assert describe(_recording()).lost_rewards == 3
    assert describe(_recording(terminated=np.arange(11) == 6)).lost_rewards == 2
    assert describe(_recording(next_obs=np.zeros((11, 2)))).lost_rewards == 0
    assert describe(_recording(reward=np.ones(11))).lost_rewards == 0


def test_duplicates():
    told = describe(_recording())
    assert (told.duplicate_rows, told.duplicate_episodes) == (4, 1)
    # The same rows in another order are duplicate rows and no duplicate trajectory.
    order = [0, 1, 2, 3, 4, 5, 6, 8, 7, 9, 10]
    mixed = _recording(action=_recording().action[order], obs=_recording().obs[order])
    assert (describe(mixed).duplicate_rows, describe(mixed).duplicate_episodes) == (4, 0)
    # Rows that differ in the observation alone, and by the last bit, are others.
    obs = _recording().obs.copy()
    obs[7:, 1] = np.nextafter(obs[7:, 1], 9.0)
    assert describe(_recording(obs=obs)).duplicate_rows == 0


def test_sums_of_random_rows_do_not_collide():
    """100 000 rows on a coarse grid against numpy's own count of distinct rows."""
    draws = np.random.default_rng(0)
    rows = draws.integers(-3, 3, (100_000, 7)).astype(np.float32)
    ended = np.arange(len(rows)) % 10 == 9
    flat = Recording(rows[:, :5], rows[:, 5:], np.zeros(len(rows)), ~ended, ended)
    distinct = len(np.unique(rows, axis=0))
    assert describe(flat).duplicate_rows == len(rows) - distinct > 10_000


def test_values_that_are_not_finite_are_counted_and_left_out():
    reward = _recording().reward.copy()
    reward[[2, 5]] = np.nan, np.inf
    told = describe(_recording(reward=reward))
    assert told.columns["reward"].not_finite == 2
    assert told.columns["reward"].high == (2.0,)
    assert sum(told.histograms["reward"].counts) == 9
    assert sum(told.histograms["action[0]"].counts) == 11


def _examined(path: Path, **how: Any) -> tuple[bool, str]:
    found, _ = examine(path, **how)
    return found.sound, " | ".join((*found.problems, *found.remarks))


def test_what_forbids_training(tmp_path: Path):
    path = tmp_path / "a.npz"
    write_own_npz(path)
    sound, said = _examined(path, chunk=5)
    assert sound, said
    # The longest trajectory does not terminate, so that its last row is dropped.
    assert _examined(path, chunk=max(LENGTHS) - 1)[0]
    sound, said = _examined(path, chunk=max(LENGTHS))
    assert not sound
    assert "no trajectory is as long as a chunk of 12: the longest has 11 rows" in said
    assert "2 trajectories are shorter than a chunk of 11" in _examined(path, chunk=11)[1]
    wide = np.load(path)["actions"] * 9
    write_own_npz(path, actions=wide)
    sound, said = _examined(path)
    assert not sound
    assert said.count("must lie in [-1, 1]") == 1
    assert _examined(path, actions=ActionMinMax())[0]
    for name, value in (("rewards", np.full(30, np.nan)), ("masks", np.ones(29))):
        write_own_npz(path, **{name: value})
        sound, said = _examined(path)
        assert not sound
        assert name in said


def test_the_command_tells_draws_and_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, page = tmp_path / "a.npz", tmp_path / "a.html"
    write_own_npz(path)
    before = path.read_bytes()
    assert main(["data", "check", str(path), "--chunk", "5", "--page", str(page)]) == 0
    said = capsys.readouterr().out
    assert "trajectories that succeed: 2 of 3" in said
    assert "chunks of 5 fit: at 58.6 % of the rows" in said
    assert said.endswith("sound\n")
    text = page.read_text()
    assert "It can be trained on." in text
    assert text.count("<img") == 3  # trajectories and rewards, actions, observations
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    write_own_npz(path, rewards=np.full(30, np.nan))
    assert main(["data", "check", str(path), "--page", str(page)]) == 2
    assert "rewards is NaN or infinite in 30 rows" in page.read_text()
    assert main(["data", "check", str(tmp_path / "none")]) == 2
    write_own_npz(path)
    assert main(["data", "check", str(path), "--actions", "best_of_n"]) == 2
    assert path.read_bytes() == before


def test_the_page_escapes_what_the_file_says(tmp_path: Path):
    path = tmp_path / "<b>.npz"
    write_own_npz(path)
    main(["data", "check", str(path), "--page", str(tmp_path / "a.html")])
    assert "<b>" not in (tmp_path / "a.html").read_text()


def test_a_page_without_its_ending_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """The data set itself, a text, a folder, a place without one, a folder nobody may write to."""
    path = tmp_path / "a.npz"
    write_own_npz(path)
    before = path.read_bytes()
    (tmp_path / "d.html").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(check, "examine", lambda *_, **__: pytest.fail("examined"))
        for name in ("a.npz", "x.txt", "d.html"):
            assert main(["data", "check", str(path), "--page", str(tmp_path / name)]) == 2
        assert "page must end in .html" in capfd.readouterr().err
        page = str(path / "x.html")
        assert main(["data", "check", str(path), "--page", page]) == 74
    with pytest.raises(InvalidConfig, match=r"out must end in \.html, got '.*a\.npz'"):
        write_data_page(*examine(path), path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "d.html"]
    page = tmp_path / "none" / "yet" / "x.html"
    assert main(["data", "check", str(path), "--page", str(page)]) == 0
    assert "It can be trained on." in page.read_text()


def test_the_name_of_an_array_is_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.npz"
    write_own_npz(path, **{"[/b]x": np.zeros(30)})
    assert main(["data", "info", str(path)]) == 0
    assert "[/b]x" in capsys.readouterr().out


def test_converting_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_own_npz(tmp_path / "a.npz")
    rows = tmp_path / "rows"
    assert main(["data", "convert", str(tmp_path / "a.npz"), str(rows)]) == 0
    assert main(["data", "check", str(rows)]) == 0
    content = bytearray((rows / "reward.npy").read_bytes())
    content[-1] ^= 1
    (rows / "reward.npy").write_bytes(content)
    assert main(["data", "check", str(rows)]) == 2
    assert "reward.npy was changed after it was written" in capsys.readouterr().out
