"""The running trials' curves fit any terminal, and are told apart without a colour."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from mmsearch.search.display.board import Board, Sized
from mmsearch.search.display.chart import Curve, Frame, draw_chart
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialRecord, TrialState
from tests.support.specs import make_spec

SPEC = make_spec(
    embedding_dim=48, hidden_width=512, block_size=10, learning_rate=0.123, n_steps=6000
)


def trial(number: int, n_segments: int, above: float = 0.0) -> TrialRecord:
    """Make a trial whose losses stand `above` those of the curve 2 + 1 / segment."""
    curve = [
        SegmentRecord(
            segment=nth,
            step=300 * nth,
            train=(),
            dev_loss=2 + 1 / nth + above,
            wall_s=1.0,
            ended_ms=nth,
            weights_sha256="",
        )
        for nth in range(1, n_segments + 1)
    ]
    return TrialRecord(number=number, spec=SPEC, facts={"started_ms": 0}, curve=curve)


def board(n_running: int) -> Board:
    """Make one with a best trial, and running ones further and further above it."""
    made = Board(50)
    made.note(replace(trial(0, 20), outcome=Outcome(state=TrialState.COMPLETE, ended_ms=9)))
    for number in range(1, n_running + 1):
        made.note(trial(number, 1 + number % 19, above=0.01 * number))
    return made


def drawn(made: Board, width: int, height: int, *, is_ascii: bool = False) -> list[str]:
    """Draw it as a terminal without colours would show it."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=width, height=height)
    console.print(Sized(lambda w, h, _: made.draw(60.0, w, h, is_ascii=is_ascii)))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()


@pytest.mark.parametrize("n_running", [0, 1, 2, 5, 16, 64])
@pytest.mark.parametrize("height", [8, 12, 16, 20, 24, 60])
def test_display_is_never_taller_than_its_terminal(n_running: int, height: int) -> None:
    """Else each redrawing would leave a part of itself above."""
    lines = drawn(board(n_running), 80, height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= 80


def test_each_running_trial_has_a_mark_in_the_chart_and_before_its_line() -> None:
    """Nobody needs to see colours to know which curve is whose."""
    lines = drawn(board(3), 80, 20)
    chart = "".join(line.partition("┤")[2] or line.partition("│")[2] for line in lines)

    assert {"a", "b", "c", "·"} <= set(chart)
    assert [line[:11] for line in lines if "+0." in line] == [
        "a trial   1",
        "b trial   2",
        "c trial   3",
    ]


def test_line_says_how_far_a_trial_is_from_the_best_at_the_same_step() -> None:
    """What counts is how it stands beside the best when that had trained as long."""
    lines = drawn(board(2), 80, 20)

    assert [line.split()[4:6] for line in lines if re.match("[ab] ", line)] == [
        ["2.5100", "+0.0100"],
        ["2.3533", "+0.0200"],
    ]


def test_mark_stays_with_its_trial() -> None:
    """Another trial's end renames nobody."""
    made = board(2)
    drawn(made, 80, 20)
    made.note(replace(trial(1, 2), outcome=Outcome(state=TrialState.PRUNED, ended_ms=9)))
    made.note(trial(7, 1))
    lines = drawn(made, 80, 20)

    assert [line[:11] for line in lines if "trial   " in line and line[1] == " "] == [
        "b trial   2",
        "a trial   7",
    ]


def test_of_many_trials_the_nearest_to_the_best_are_shown() -> None:
    """There is no room for 64, and no use for the hopeless."""
    lines = drawn(board(64), 80, 20)

    numbers = [int(found[1]) for line in lines if (found := re.match(r". trial +(\d+)", line))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"and {64 - len(numbers)} more" in lines[-1]


def test_terminal_without_unicode_gets_ascii() -> None:
    """It would show question marks."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, force_terminal=True, color_system=None, width=80, height=24)
    made = board(3)

    console.print(Sized(lambda w, h, plain: made.draw(60.0, w, h, is_ascii=plain)))

    file.seek(0)
    text = file.read()
    assert "6,000 steps" in text
    assert "a" in text


def test_locale_c_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would write UTF-8 there as well."""
    monkeypatch.setenv("LC_ALL", "C")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=80, height=24)
    made = board(3)

    console.print(Sized(lambda w, h, plain: made.draw(60.0, w, h, is_ascii=plain)))

    assert "6,000 steps" in file.getvalue()
    assert file.getvalue().isascii()


def test_curve_gone_astray_does_not_flatten_the_others() -> None:
    """One learning rate too high would else hide what all others do."""
    best = Curve(mark=".", points=[(1, 3.0), (2, 2.5), (4, 2.0)])
    astray = Curve(mark="a", points=[(1, 70.0), (2, 60.0)])

    rows = [line.plain for line in draw_chart([best, astray], Frame(n_steps=4, width=60, height=8))]

    assert rows[0].lstrip().startswith(">3.50")
    assert len({number for number, row in enumerate(rows[:8]) if "." in row[7:]}) > 4


@pytest.mark.parametrize("points", [[], [[(4, 2.0)]], [[(0, 2.0)]]])
def test_nothing_to_see_is_no_chart(points: list[list[tuple[int, float]]]) -> None:
    """A trial of one segment is a number, and no curve."""
    curves = [Curve(mark="a", points=each) for each in points]

    assert draw_chart(curves, Frame(n_steps=4, width=60, height=8)) == []
