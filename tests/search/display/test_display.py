"""The live display and tables fit a terminal, whatever is searched, and agree with the trials."""

import io
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group
from rich.text import Text

from mmsearch.search.cli.trials import trials_table
from mmsearch.search.display.format import trial_line
from mmsearch.search.display.live import LiveDisplay, SearchStatus, is_ascii, sparkline
from mmsearch.search.display.tables import WIDTH, TableColumn, fitted_table
from mmsearch.search.study.settings import Settings
from mmsearch.tracking.journal.records import TrialRecord, TrialState, best_trial
from tests.support.records import make_trial
from tests.support.specs import make_spec

SPEC = make_spec(embedding_dim=48, hidden_width=512, block_size=10, weight_decay=0.2, n_steps=6000)


def trial(
    number: int, losses: Sequence[float], state: str = "RUNNING", *, is_repeat: bool = False
) -> TrialRecord:
    """Make a trial with these dev losses, or a training of a confirmation."""
    facts = {"trial": number, "nth_seed": 1} if is_repeat else {}
    return make_trial(number, losses, state, facts=facts, spec=SPEC)


def drawn(status: SearchStatus, width: int, height: int, encoding: str = "utf-8") -> list[str]:
    """Draw a status as a terminal without colours would show it."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, force_terminal=True, color_system=None, width=width, height=height)
    console.print(Group(*status.lines(console.options, height)))
    file.seek(0)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.read()).splitlines()


@given(
    curves=st.lists(st.lists(st.floats(0, 100), max_size=70), max_size=20),
    width=st.integers(20, 200),
    height=st.integers(1, 40),
    encoding=st.sampled_from(["utf-8", "ascii"]),
    is_repeat=st.booleans(),
)
def test_display_fits_any_terminal(
    curves: list[list[float]], width: int, height: int, encoding: str, *, is_repeat: bool
) -> None:
    """A line too many or too wide would leave a part of itself behind at each redraw."""
    status = SearchStatus(50)
    status.update(trial(99, [2.0], "COMPLETE", is_repeat=is_repeat))
    for number, losses in enumerate(curves):
        status.update(trial(number, losses, is_repeat=is_repeat))

    lines = drawn(status, width, height, encoding)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    shown = [line for line in lines if line.startswith("trial")]
    if more := re.match(r"and (\d+) more", lines[-1]):
        assert len(shown) + int(more[1]) == len(curves)
        assert len(lines) == height
    else:
        assert len(shown) == len(curves) or height < 6


def test_sparkline_shows_where_a_loss_lies() -> None:
    """The scale is shared, losses beyond it are cut off, and the last loss is always shown."""
    assert sparkline([2.0, 1.5, 1.0], 1.0, 2.0, "abcde") == "eca"
    assert sparkline([70.0, 2.0, 0.1], 1.0, 2.0, "abcde") == "eea"
    assert sparkline([], 0.0, 0.0) == ""
    assert sparkline([1.0], 1.0, 1.0, "ab") == "a"
    long = sparkline([2.0] * 40 + [1.0], 1.0, 2.0, "ab")
    assert long == "b" * 15 + "a"


@pytest.mark.parametrize(
    ("locale", "expected"), [("C", True), ("POSIX", True), ("en_GB.UTF-8", False)]
)
def test_c_locale_gets_ascii(
    monkeypatch: pytest.MonkeyPatch, locale: str, *, expected: bool
) -> None:
    """Python would write UTF-8 in the C locale as well."""
    monkeypatch.setenv("LC_ALL", locale)
    console = Console(file=io.StringIO(), force_terminal=True)
    assert is_ascii(console.options) is expected


def updates(record: TrialRecord) -> list[TrialRecord]:
    """Return what an observer sees of a trial: its start, each segment, and its end if any."""
    states = [
        replace(record, curve=record.curve[:n], outcome=None) for n in range(len(record.curve) + 1)
    ]
    return states if record.outcome is None else [*states, record]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["COMPLETE", "PRUNED", "FAIL", "RUNNING"]),
            st.lists(st.sampled_from([0.0, 0.5, 2.0, 2.5]), max_size=2),
        ).filter(lambda pair: pair[0] not in ("COMPLETE", "PRUNED") or pair[1]),
        max_size=8,
    ),
    chance=st.randoms(use_true_random=False),
    is_repeat=st.booleans(),
)
def test_display_agrees_with_a_scan_of_all_trials(
    rows: list[tuple[str, list[float]]], chance: random.Random, *, is_repeat: bool
) -> None:
    """Counts, the best and its stars do not depend on the order in which trials end."""
    records = [
        trial(n, losses, state, is_repeat=is_repeat) for n, (state, losses) in enumerate(rows)
    ]
    earlier = [r for r in records if r.outcome and chance.random() < 0.3]
    seen = {record.number: record for record in earlier}
    queues = [updates(record) for record in records if record not in earlier]
    order = [queue for queue in queues for _ in queue]
    chance.shuffle(order)
    file, stars = io.StringIO(), []

    with LiveDisplay(Console(file=file, force_terminal=True, width=100), 9, earlier) as display:
        for queue in order:
            record = queue.pop(0)
            seen[record.number] = record
            display.show(record)
            if record.outcome is not None and record.outcome.state != TrialState.FAIL:
                stars.append(best_trial(seen.values()) is record and not is_repeat)

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert [
        mark == "*" for mark in re.findall(r"trial .*(?:complete|pruned  ) \d\.\d{4}(\*?)", text)
    ] == stars
    counts = [
        [r.state for r in records].count(TrialState(s))
        for s in ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
    ]
    frame = text[text.rindex(f"{counts[0] + counts[1]} of 9 trials") :]
    assert "{} complete, {} pruned, {} failed, {} running".format(*counts) in frame
    best = best_trial(records)
    assert ("best:" in frame) == (best is not None and not is_repeat)
    if best is not None and not is_repeat:
        assert f"best: trial {best.number}, dev loss {best.dev_loss:.4f}" in frame
    assert len(re.findall(r"(?m)^trial .* step ", frame)) == counts[3]


def test_time_left_counts_only_trials_of_this_search() -> None:
    """Trials that were there before took no time of this search."""
    status = SearchStatus(4, began_s=0.005)  # 5 ms after 1970: before the trials ended
    status.update(trial(0, [2.0], "COMPLETE"))
    assert status.n_before == 0
    assert "left" in drawn(status, 80, 10)[0]
    status = SearchStatus(4)
    status.update(trial(0, [2.0], "COMPLETE"))
    assert status.n_before == 1
    assert "left" not in drawn(status, 80, 10)[0]


def test_dumb_terminal_gets_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's shell would show the sequences of a display as text."""
    monkeypatch.setenv("TERM", "dumb")
    file = io.StringIO()

    with LiveDisplay(Console(file=file, force_terminal=True, width=80), 1) as display:
        for record in updates(trial(0, [2.0], "COMPLETE")):
            display.show(record)

    assert "\x1b" not in file.getvalue()
    assert re.findall(r"(?m)^trial +0  complete 2\.0000", file.getvalue())


POINTS = st.fixed_dictionaries(
    {
        "embedding_dim": st.integers(2, 64),
        "hidden_width": st.integers(8, 640),
        "block_size": st.integers(2, 10),
        "learning_rate": st.floats(5e-4, 1.0),
        "weight_decay": st.floats(1e-5, 2.0),
        "context_noise": st.just(0.0) | st.floats(0.01, 0.4),
        "batch_size": st.sampled_from([32, 128]),
        "optimizer": st.sampled_from(["sgd", "adam"]),
        "schedule": st.sampled_from(["cosine", "constant"]),
    }
)


def lines(shown: Text) -> list[str]:
    """Print a table as a wide terminal would."""
    out = io.StringIO()
    Console(file=out, width=200).print(shown)
    return out.getvalue().splitlines()


@given(points=st.lists(POINTS, min_size=1, max_size=8))
def test_trials_fit_with_all_hyperparameters(points: list[dict[str, Any]]) -> None:
    """Categories and the parameters make room for what is searched in every study."""
    specs = [Settings().trial_spec(point, seed=0) for point in points]
    facts = {"n_parameters": 345_678}
    records = [make_trial(n, [2.0], spec=spec, facts=facts) for n, spec in enumerate(specs)]
    printed = lines(trials_table(records, is_running=False))
    assert max(len(line.rstrip()) for line in printed) <= WIDTH
    if len(points) == 1 or len({point["weight_decay"] for point in points}) > 1:
        assert " wd " in printed[0]
    for each in records:
        assert len(trial_line(each, is_best=True)) <= WIDTH


def test_columns_that_do_not_fit_are_left_out_by_rank() -> None:
    """The lower rank stays; a narrow one of a higher rank may still find room."""
    wide = "x" * 30
    columns = [
        TableColumn(heading="always", cells=[wide]),
        TableColumn(heading="narrow", cells=["x"], rank=3),
        TableColumn(heading="later", cells=[wide], rank=2),
        TableColumn(heading="first", cells=[wide], rank=1),
    ]
    assert lines(fitted_table(columns, [None]))[0].split() == ["always", "narrow", "first"]
