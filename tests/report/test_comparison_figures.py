"""The pictures of a comparison keep their room and leave nobody out, however many methods."""

import dataclasses
import itertools

import numpy as np
import pytest

from flowpolicy.report import comparison_figures, style
from flowpolicy.report.costs import Cost
from flowpolicy.report.figures import learning_curve
from flowpolicy.report.progress import PhaseCurve
from flowpolicy.report.results import Aggregate, Result
from flowpolicy.report.statistics import Curve, Interval

LONG = "mini/fmq, actor.terms.0.weight=0.25, bootstrap=pessimistic(rho=0.5), critic.width=512"
SPAN = Interval(0.4, 0.6)


def names_of(count, long=False):
    return [f"{LONG}, eta={i}" if long else f"mini/method-{i}" for i in range(count)]


def result(method, task="task1"):
    return Result(task, method, (0, 1), 100, 0.5, 0.1, SPAN, 0.5, SPAN)


def curve(phase, steps=(100, 200)):
    steps, rates = np.array(steps), np.array([0.2, 0.6])
    band = Curve(rates, rates - 0.1, rates + 0.1)
    return PhaseCurve(phase, steps, band, {0: (steps, rates)})


def drawn(figure):
    """The figure, its layout found."""
    with style.styled():
        figure.draw_without_rendering()
    return figure


def inches(figure, axes):
    """Width and height of a panel."""
    return axes.get_position().size * figure.get_size_inches()


def legend_of(figure):
    """Its names, without the ends of lines, once it is known to lie inside the figure."""
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert min(box.x0, box.y0) >= 0
    assert (box.x1, box.y1) <= (figure.bbox.x1, figure.bbox.y1)
    return [text.get_text().replace("\n", " ") for text in legend.get_texts()]


@pytest.mark.parametrize(("count", "long"), [(6, False), (22, False), (38, False), (12, True)])
def test_panels_keep_their_room_beside_any_number_of_names(count, long):
    names = names_of(count, long)
    looks = comparison_figures.looks_of(names)
    levels = np.linspace(0, 1, 11)
    cost = Cost(32, 0.3, 0.5, "cpu", 1.0)
    figures = {
        "profile": comparison_figures.profiles(levels, dict.fromkeys(names, 1 - levels), looks),
        "cost": comparison_figures.success_against_cost([(result(n), cost) for n in names], looks),
        "curves": learning_curve({name: [curve("online")] for name in names}),
    }
    for what, figure in figures.items():
        assert legend_of(drawn(figure)) == names, what
        for axes in figure.axes:
            width, height = inches(figure, axes)
            assert width > 3, what
            assert height > 1.7, what


@pytest.mark.parametrize("long", [False, True])
def test_names_beside_bars_leave_them_room_and_do_not_touch(long):
    names = names_of(5, long)
    looks = comparison_figures.looks_of(names)
    rows = [Aggregate(name, ("task1",), (0, 1), 0.5, SPAN, 0.5, SPAN) for name in names]
    for figure, panels in (
        (comparison_figures.bars([result(name) for name in names], looks), 1),
        (comparison_figures.overall(rows, looks), 2),
    ):
        first = drawn(figure).axes[0]
        assert inches(figure, first)[0] > 4.5 / panels
        labels = first.get_yticklabels()
        assert [label.get_text().replace("\n", " ") for label in labels] == names
        boxes = [label.get_window_extent() for label in labels]
        assert all(above.y0 > below.y1 for above, below in itertools.pairwise(boxes))


def test_methods_of_one_cost_stand_inside_the_panel():
    """Ten at 32 evaluations beside one at 1, moved aside until none hides another."""
    names = names_of(11)
    costs = [Cost(1, 0.01, 0.02, "cpu", 1.0), *[Cost(32, 0.3, 0.5, "cpu", 1.0)] * 10]
    rows = list(zip(map(result, names), costs, strict=True))
    figure = comparison_figures.success_against_cost(rows, comparison_figures.looks_of(names))
    for axes in figure.axes:
        low, high = axes.get_xlim()
        places = [bar.lines[0].get_xdata()[0] for bar in axes.containers]
        assert len(set(places)) == 11
        assert low < min(places) <= max(places) < high


def test_a_method_of_another_panel_is_in_the_legend():
    """One without an online phase, and one that was measured on the second task alone."""
    looks = comparison_figures.looks_of(["a", "b"])
    cost = Cost(32, 0.3, 0.5, "cpu", 1.0)
    rows = [(result("a"), cost), (result("b", "task2"), cost)]
    assert legend_of(drawn(comparison_figures.success_against_cost(rows, looks))) == ["a", "b"]
    curves = {"a": [curve("offline")], "b": [curve("offline"), curve("online")]}
    assert legend_of(drawn(learning_curve(curves))) == ["a", "b"]


def test_sixty_methods_look_different():
    """As points too, which have no dashes."""
    assert len({style.look(i)[::2] for i in range(60)}) == 60


def test_a_dollar_in_a_name_is_a_letter():
    name = r"mini/$\frac$, eta=$3"
    rows = [dataclasses.replace(result(name), task=r"$\task$")]
    figure = comparison_figures.bars(rows, comparison_figures.looks_of([name]))
    assert style.svg(figure).startswith(b"<?xml")
    assert figure.axes[0].get_yticklabels()[0].get_text() == name
