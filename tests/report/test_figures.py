"""Figures are valid images of the expected size that show what they were given."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from run_folders import metric_records

from flowpolicy.errors import InvalidData
from flowpolicy.report import diagnostics, figures, progress, runfiles, scenes, style
from flowpolicy.report.material import FlowPicture


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def curves_of(folder):
    evaluations = runfiles.read_run(folder).evaluations
    rng = np.random.default_rng(0)
    return {
        name: progress.phase_curves(evaluations, name, rng)
        for name in progress.refiners(evaluations)
    }


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 10))
    ends = 0.5 * np.tanh(noise)
    times = np.linspace(0, 1, 5)
    points = np.stack([(1 - t) * noise + t * ends for t in times])
    return FlowPicture(times, points, ends + 0.1, -np.sum(ends**2, axis=1))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_learning_curve_shares_an_axis_from_0_to_1(make_run, seeds):
    figure = figures.learning_curve(curves_of(make_run(seeds)))
    offline, online = figure.axes
    assert offline.get_ylim() == online.get_ylim() == (-0.02, 1.02)
    assert (offline.get_xlabel(), online.get_xlabel()) == ("updates", "environment steps")
    assert opened(style.png(figure, dpi=100)).size == (840, 350)
    vector = style.svg(figure)
    assert vector.startswith(b"<?xml")
    assert vector.rstrip().endswith(b"</svg>")


def test_curve_carries_the_offline_value_to_online_step_0(make_run):
    online = figures.learning_curve(curves_of(make_run())).axes[1]
    (start,) = [line for line in online.lines if list(line.get_xdata()) == [0]]
    assert start.get_ydata()[0] == pytest.approx(0.02)
    assert start.get_markerfacecolor() == "white"


def test_one_phase_and_no_phase_still_draw(make_run):
    folder = make_run()
    curves = curves_of(folder)
    offline_only = {name: parts[:1] for name, parts in curves.items()}
    assert len(figures.learning_curve(offline_only).axes) == 1
    assert opened(style.png(figures.learning_curve({}), dpi=50)).size == (420, 175)


def test_bars_have_the_heights_of_the_rates(make_run):
    evaluations = runfiles.read_run(make_run((0, 1))).evaluations
    rng = np.random.default_rng(0)
    before, after = progress.before_after(evaluations, progress.refiners(evaluations)[0], rng)
    axes = figures.before_after(before, after).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.02, 0.8])
    assert axes.get_ylim()[0] == 0
    alone = figures.before_after(None, after)
    assert len(alone.axes[0].patches) == 1
    assert opened(style.png(alone, dpi=100)).size == (480, 350)


def test_flow_map_says_how_far_apart_the_ends_are(picture):
    figure = figures.flow_map(picture)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    gap = math.hypot(0.1, 0.1)
    assert titles[:3] == ["4 small steps", "One jump", f"Both ends, {gap:.2f} apart on average"]
    assert opened(style.png(figure, dpi=60)).size == (660, 237)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("q", np.zeros(3), "q"),
        ("jump", np.zeros((40, 9)), "jump"),
        ("axes", (0, 10), "axes"),
        ("q", np.full(40, np.nan), "q has values"),
    ],
)
def test_flow_picture_refuses_what_does_not_fit(picture, field, value, says):
    fields = {name: getattr(picture, name) for name in ("times", "points", "jump", "q", "axes")}
    # A TypeError where jaxtyping checks the annotations before the class does.
    with pytest.raises((InvalidData, TypeError), match=says):
        FlowPicture(**{**fields, field: value})


def test_displacements_share_a_panel_with_their_radius():
    names = diagnostics.metric_names(metric_records((0,)))[:5]
    found = {panel.title: panel.names for panel in diagnostics.panels(names)}
    assert found == {
        "critic/loss": ("critic/loss",),
        "flow/diagonal": ("flow/diagonal",),
        "|u - u_off| against eta_eff": ("actor/eta_eff", "actor/u_off_r0", "actor/u_off_r1"),
    }
    numbered = diagnostics.panels(["loss/bin0", "loss/bin1", "loss/bin2", "q1"])
    assert [panel.names for panel in numbered] == [
        ("loss/bin0", "loss/bin1", "loss/bin2"),
        ("q1",),
    ]


def test_diagnostics_draw_every_seed_and_name_what_does_not_fit():
    records = metric_records((0, 1))
    figure = diagnostics.diagnostics(records, phase="offline")
    # Two seeds and their mean.
    assert [len(axes.lines) for axes in figure.axes[:2]] == [3, 3]
    assert opened(style.png(figure, dpi=50)).width == 550
    assert diagnostics.diagnostics([], phase="online") is None
    many = {f"metric_{chr(97 + i)}_x": 1.0 for i in range(26)}
    crowd = [{"seed": 0, "phase": "online", "step": step, **many} for step in (1, 2)]
    assert diagnostics.left_out(crowd) == ("metric_y_x", "metric_z_x")
    assert diagnostics.left_out(records) == ()


def test_what_one_episode_gave_is_averaged_and_what_was_logged_once_is_not_drawn(make_run):
    records = runfiles.read_run(make_run(logged=True)).metrics
    figure = diagnostics.diagnostics(records, phase="online")
    drawn = {axes.get_title(loc="left"): axes for axes in figure.axes}
    (line,) = drawn["episode/success, mean of last 20"].lines
    assert line.get_xdata().tolist() == [90, 180, 270, 360]
    assert line.get_ydata().tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert "time/rest" not in drawn
    assert diagnostics.logged_once(records, phase="online") == {"time/rest": 0.25}
    assert diagnostics.logged_once(records, phase="offline") == {}


def test_strip_shows_first_and_last_frame(frames):
    strip = opened(scenes.frame_strip(frames, count=4))
    assert strip.size == (4 * 80 + 3 * 4, 60)
    pixels = np.asarray(strip)
    np.testing.assert_array_equal(pixels[:, :80], frames[0])
    np.testing.assert_array_equal(pixels[:, -80:], frames[-1])
    assert opened(scenes.frame_strip(frames[:1])).size == (80, 60)


@pytest.mark.parametrize(("make", "kind"), [("animation", "WEBP"), ("animation_gif", "GIF")])
def test_animations_hold_all_frames_and_are_small(frames, make, kind):
    data = getattr(scenes, make)(frames, width=40)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.n_frames, image.size) == (kind, 10, (40, 30))
    assert image.info["loop"] == 0
    assert len(data) < 20_000


def test_frames_of_the_wrong_kind_are_refused(frames):
    with pytest.raises((InvalidData, TypeError)):
        scenes.animation([])
    with pytest.raises((InvalidData, TypeError)):
        scenes.frame_strip([frames[0], frames[1][:30]])
    with pytest.raises((InvalidData, TypeError)):
        scenes.frame_strip([frames[0].astype(np.float32)])


def test_paths_are_drawn_from_two_sides_and_mark_the_success():
    path = np.cumsum(np.full((30, 3), 0.01), axis=0)
    solid = scenes.paths({"gripper": path, "cube": path + 0.1}, success_step=20)
    assert [axes.get_title(loc="left") for axes in solid.axes] == ["from above", "from the side"]
    stars = [line for line in solid.axes[1].lines if line.get_marker() == "*"]
    assert [s.get_xydata()[0].tolist() for s in stars] == [
        path[20][[0, 2]].tolist(),
        (path + 0.1)[20][[0, 2]].tolist(),
    ]
    flat = scenes.paths({"point": path[:, :2]}, success_step=None)
    assert len(flat.axes) == 1
    with pytest.raises(InvalidData, match="paths"):
        scenes.paths({}, success_step=None)
    with pytest.raises(InvalidData, match="paths"):
        scenes.paths({"a": path, "b": path[:, :2]}, success_step=None)


def test_drawing_leaves_matplotlib_as_it_was_and_repeats_its_bytes(picture):
    import matplotlib

    settings = dict(matplotlib.rcParams)
    first, second = (style.svg(figures.flow_map(picture)) for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == settings
