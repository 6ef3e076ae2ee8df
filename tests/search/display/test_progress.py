"""The display says of a search, as it goes, what a look at all of its trials would say."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mmsearch.search.display.progress import Progress
from mmsearch.tracking.journal.records import (
    Outcome,
    SegmentRecord,
    TrialRecord,
    TrialState,
    best_trial,
)
from tests.support.specs import make_spec

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

SPEC = make_spec(embedding_dim=2, hidden_width=10, n_steps=300)


def news_of(
    number: int, state: str, losses: list[float], *, is_repeat: bool = False
) -> list[TrialRecord]:
    """Give what is told of one trial, in order: its begin, its segments, and its end if any."""
    facts = {"started_ms": 0} | ({"trial": number // 2, "nth_seed": 1} if is_repeat else {})
    lines = [
        SegmentRecord(
            segment=nth,
            step=100 * nth,
            train=(),
            dev_loss=loss,
            wall_s=1.0,
            ended_ms=nth,
            weights_sha256="",
        )
        for nth, loss in enumerate(losses, start=1)
    ]
    told = [
        TrialRecord(number=number, spec=SPEC, facts=facts, curve=lines[:n])
        for n in range(len(lines) + 1)
    ]
    if state != "RUNNING":
        told.append(replace(told[-1], outcome=Outcome(state=TrialState(state), ended_ms=9)))
    return told


def said_by_a_scan(
    trials: Iterable[TrialRecord], *, n_trials: int, what: str = "trials"
) -> list[str]:
    """Say, from all trials, what the head of the display must."""
    trials = list(trials)
    states = [trial.state for trial in trials]
    order = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    complete, pruned, failed, running = map(states.count, order)
    best = best_trial(trials)
    lines = [
        f"{complete + pruned} of {n_trials} {what}",
        f"{complete} complete, {pruned} pruned, {failed} failed, {running} running",
    ]
    if best is not None and not best.is_repeat:
        lines.append(f"best: trial {best.number}, dev loss {best.dev_loss:.4f}")
    return lines


@settings(deadline=None)
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
def test_display_says_what_a_fresh_scan_would(
    rows: list[tuple[str, list[float]]], chance: random.Random, *, is_repeat: bool
) -> None:
    """What is kept of thousands of trials must not drift from them, in whatever order they end."""
    queues = [
        news_of(number, state, losses, is_repeat=is_repeat)
        for number, (state, losses) in enumerate(rows)
    ]
    # What an earlier process left; a resumed trial tells its begin again.
    chosen = [queue for queue in queues if chance.random() < 0.3]
    trials = {queue[-1].number: queue[-1] for queue in chosen}
    news = [queue for queue in queues if queue not in chosen or queue[-1].outcome is None]
    order = [queue for queue in news for _ in queue]
    chance.shuffle(order)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    what = "repeats" if is_repeat else "trials"
    stars = []

    with Progress(console, 9, list(trials.values()), what=what) as progress:
        for queue in order:
            record = queue.pop(0)
            trials[record.number] = record
            progress.show(record)
            if record.outcome is not None and record.outcome.state != "FAIL":
                stars.append(best_trial(trials.values()) is record and not is_repeat)

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    ended = re.findall(r"trial .*(?:complete|pruned  ) \d\.\d{4}(.)", shown)
    assert [mark == "*" for mark in ended] == stars
    expected = said_by_a_scan(trials.values(), n_trials=9, what=what)
    last_frame = shown[shown.rindex(expected[0]) :]
    assert [line for line in expected if line not in last_frame] == []
    assert len(re.findall(r"(?m)^[a-z] trial ", last_frame)) == sum(
        record.outcome is None for record in trials.values()
    )
    assert ("best:" in last_frame) == (len(expected) == 3)


def test_tie_goes_to_the_earlier_trial() -> None:
    """Of equal scores the lower number is the best, even where it ends last."""
    file = io.StringIO()
    progress = Progress(Console(file=file, width=100), 3, [])

    for number in (1, 2, 0):
        for record in news_of(number, "COMPLETE", [2.0]):
            progress.show(record)

    assert re.findall(r"trial +(\d) +complete +2\.0000(.)", file.getvalue()) == [
        ("1", "*"),
        ("2", " "),
        ("0", "*"),
    ]
