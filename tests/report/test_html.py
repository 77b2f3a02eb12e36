"""The report holds everything, refers to nothing, and never invents a number."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from run_folders import evaluation_rows

from flowpolicy.errors import MissingData
from flowpolicy.report import Material, Rollout, terminal_curve
from flowpolicy.report.html import write_report
from flowpolicy.report.material import FlowPicture
from flowpolicy.report.runfiles import read_run

SECTIONS = [
    "headline",
    "learning-curve",
    "before-after",
    "rollout",
    "flow-map",
    "diagnostics",
    "evaluations",
    "configuration",
    "versions",
    "reproduce",
]


class Reader(HTMLParser):
    """Collects ids, addresses and text, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.addresses, self.words, self.open, self.tags = [], [], [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        fields = dict(attrs)
        if tag == "section":
            self.ids.append(fields["id"])
        self.addresses += [fields[k] for k in ("src", "href", "action", "data") if k in fields]
        if tag == "img":
            assert fields["alt"]
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def report_of(folder, **material):
    path = write_report(folder, material=Material(**material))
    assert path == folder / "report.html"
    return Reader(path.read_text(encoding="utf-8")), path


def flow_picture():
    noise = np.random.default_rng(0).normal(size=(12, 5))
    return FlowPicture(np.array([0.0, 1.0]), np.stack([noise, noise / 3]), noise / 3, noise[:, 0])


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_every_section_is_there_and_nothing_is_fetched(make_run, frames, seeds):
    rollout = Rollout(7, 36, 36, -35.0, (5, 7), (7,), frames, tuple(range(0, 40, 4)))
    page, path = report_of(make_run(seeds, logged=True), rollout=rollout, flow=flow_picture())
    assert page.ids == SECTIONS
    assert not page.tags & {"script", "iframe", "link", "object", "embed"}
    assert all(re.match(r"data:image/(png|svg\+xml|webp);base64,", a) for a in page.addresses)
    assert len(page.addresses) == 7
    raw = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", raw)
    for words in (
        "0.02",
        "0.80",
        "+0.78",
        "fmq",
        "best_of_n(n=32)",
        "cube-single-play-singletask-task1-v0",
        "Episode with environment seed 7",
        "config.agent.act.n",
        "time/rest 0.25",
        "0123abc",
        "flowpolicy train fmq/cube-single-task1 --seeds 0",
        "30.0 s",
    ):
        assert words in page.text
    assert ("bootstrap over seeds" in page.text) == (len(seeds) > 1)
    assert path.stat().st_size < 1_500_000


def test_the_same_folder_gives_the_same_bytes_and_no_litter(make_run):
    folder = make_run((0, 1))
    first = write_report(folder, material=Material()).read_bytes()
    assert write_report(folder, material=Material()).read_bytes() == first
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_pictures_are_well_formed(make_run):
    import base64

    page, _ = report_of(make_run(logged=True))
    assert len(page.addresses) == 4
    for address in page.addresses:
        kind, _, body = address.partition(";base64,")
        assert kind == "data:image/svg+xml"
        ElementTree.fromstring(base64.b64decode(body, validate=True))


def test_without_frames_the_path_is_drawn_and_that_is_said(make_run):
    path = np.cumsum(np.full((13, 3), 0.01), axis=0)
    rollout = Rollout(3, 12, None, -12.0, (3,), (), paths={"gripper": path})
    page, _ = report_of(make_run(), rollout=rollout)
    assert "could not draw the scene, so the path is shown instead" in page.text
    assert "none of the episodes tried (environment seeds 3) was solved" in page.text
    assert len(page.addresses) == 3
    nothing = Rollout(3, 12, None, -12.0, (3,), ())
    assert "no positions were recorded" in report_of(make_run(), rollout=nothing)[0].text


def test_absent_material_is_said_to_be_absent(make_run):
    page, _ = report_of(make_run(), rollout_absent="No EGL here.", flow_absent="No flow here.")
    assert "No EGL here." in page.text
    assert "No flow here." in page.text
    assert "No metric was logged." in page.text


def test_empty_evaluations_are_reported_as_empty(make_run):
    page, _ = report_of(make_run((0, 1), rows=[]))
    assert page.ids == SECTIONS
    for words in (
        "No step was evaluated for every seed",
        "No evaluation was recorded",
        "evaluations.csv has no row yet",
        "seed 0: no evaluation at all",
        "online phase: no evaluation at its end, 500 environment steps (none was made)",
    ):
        assert words in page.text


def test_a_run_without_an_environment_has_no_evaluations_file(make_run):
    folder = make_run()
    (folder / "evaluations.csv").unlink()
    page, _ = report_of(folder)
    assert "evaluations.csv: the run has not written it" in page.text


def test_one_phase_alone(make_run):
    rows = evaluation_rows((0,))
    page, _ = report_of(make_run(rows=[row for row in rows if row[1] == "offline"]))
    assert "online phase: no evaluation at its end" in page.text
    assert "→" not in page.text
    page, _ = report_of(make_run(rows=[row for row in rows if row[1] == "online"]))
    assert "No evaluation before online training was recorded" in page.text


def test_a_missing_file_is_named_and_the_old_report_stays(make_run):
    folder = make_run()
    old = write_report(folder, material=Material()).read_bytes()
    (folder / "config.json").unlink()
    with pytest.raises(MissingData, match=r"config\.json"):
        write_report(folder, material=Material())
    assert (folder / "report.html").read_bytes() == old


def test_markup_in_a_run_is_text(make_run):
    attack = "<script>alert(1)</script>"
    rows = [[0, "online", 5, attack, 10, 0.3, 0.0, 1.0, 1.0]]
    folder = make_run(rows=rows, run=attack, task=f'"><img src=x>{attack}', command=attack)
    page, path = report_of(folder, rollout_absent=attack)
    assert "script" not in page.tags
    assert "<script" not in path.read_text(encoding="utf-8")
    assert all(address.startswith("data:") for address in page.addresses)


def test_a_command_that_was_not_recorded_is_not_guessed(make_run):
    page, _ = report_of(make_run(command=None))
    assert "did not record its command line" in page.text
    page, _ = report_of(make_run(command=None), command="make demo")
    assert "make demo" in page.text


def test_terminal_curve_draws_the_numbers(make_run):
    text = terminal_curve(read_run(make_run()).evaluations, height=4)
    lines = text.splitlines()
    assert lines[-2] == "success 0.02 [0.00, 0.10] → 0.80 [0.58, 0.92]"
    assert lines[-1] == "95 % interval, 20 episodes at the end, best_of_n(n=32), seed 0"
    assert lines[5].split("online")[0].strip() == "offline, 400 updates"
    # At height 4 a quarter is one full line: 0, .25, .5, .75 and .8 (three lines, two eighths).
    bars = [row.split("│")[1].split("█" * 6) for row in lines[:4]]
    assert [len(row) - 1 for row in bars] == [0, 2, 3, 4]
    assert "▂" in lines[0]
    assert max(map(len, lines)) <= 72


def test_terminal_curve_with_little_or_much(make_run):
    assert terminal_curve([]) == "no evaluation yet"
    one = read_run(make_run()).evaluations[0]
    assert "→" not in terminal_curve([one])
    many = [one._replace(phase="online", step=i + 1, successes=50) for i in range(200)]
    lines = terminal_curve(many).splitlines()
    assert max(map(len, lines)) <= 72
    assert "1.00 [0.93, 1.00]" in lines[-2]
    apart = [one, one._replace(seed=1, step=500)]
    assert "no step was evaluated for every seed" in terminal_curve(apart)
