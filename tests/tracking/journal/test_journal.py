"""The journal keeps what was written, through kill -9, torn lines, bad bytes and a full disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.errors import MMSearchError
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import (
    Outcome,
    SegmentRecord,
    TrialRecord,
    TrialState,
    best_trial,
)
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mmsearch.model.spec import TrialSpec
    from tests.support.tracked_study import Study

SPEC = make_spec(n_steps=12_000_000_000, n_segments=1_000_000)
FACTS = {"started_ms": 1_700_000_000_000, "n_parameters": 11_897}
ENDED = Outcome(state=TrialState.PRUNED, ended_ms=1_700_000_009_000)

finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**53)
any_text = st.text(st.characters() | st.characters(categories=["Cs"]))
"""With lone surrogates, which stand for the bytes of a path that is not UTF-8."""
json_objects = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | finite | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


def weights_of(segment: int, n_bytes: int = 1000) -> bytes:
    """Make bytes that stand for the weights after a segment; `WRITER` makes the same."""
    return hashlib.shake_256(str(segment).encode()).digest(n_bytes)


def line_of(segment: int, weights: bytes, dev_loss: float | None = None) -> SegmentRecord:
    """Make the record of a segment; `WRITER` makes the same."""
    return SegmentRecord(
        segment=segment,
        step=segment * 12_000,
        train=((segment * 12_000 - 6_000, 2.5, 0.2), (segment * 12_000, 2.25, 0.1)),
        dev_loss=2.0 + 1.0 / segment if dev_loss is None else dev_loss,
        wall_s=0.5,
        ended_ms=1_700_000_000_000 + segment,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )


def append(journal: Journal, segment: int, samples: Sequence[str] = ()) -> SegmentRecord:
    """Append a segment to trial 0."""
    weights = weights_of(segment)
    record = line_of(segment, weights)
    journal.append(0, record, weights, samples)
    return record


def begin(folder: Path, n_segments: int = 0) -> Journal:
    """Start trial 0 in a journal of its own."""
    journal = Journal(folder)
    journal.create()
    journal.start(0, SPEC, FACTS)
    for segment in range(1, n_segments + 1):
        append(journal, segment)
    return journal


def refusal(call: Callable[[], object], path: Path) -> str:
    """Return the one-line message of a journal error, which names the file."""
    with pytest.raises(JournalError) as caught:
        call()
    message = str(caught.value)
    assert repr(str(path)) in message
    assert "\n" not in message
    return message


def files(folder: Path) -> dict[str, bytes]:
    """Read all that a reader of a journal would see."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".new")
    }


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the examples of a property share."""
    return tmp_path_factory.mktemp("scratch")


# What is written reads back.


@settings(max_examples=30, deadline=None)
@given(facts=json_objects)
def test_study_facts_read_back_as_written(scratch: Path, facts: dict[str, Any]) -> None:
    journal = Journal(scratch)

    facts |= {"corpus": os.fsdecode(b"/data/na\xffmes.txt")}  # a path need not be UTF-8

    journal.write_study(facts)

    assert journal.read_study() == facts


def test_study_that_has_not_begun_is_nothing_and_no_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "names")

    assert journal.name == "names"
    assert journal.read_study() is None
    assert journal.numbers() == []
    assert journal.records() == []


@settings(max_examples=30, deadline=None)
@given(
    spec=st.builds(make_spec, seed=st.integers(0, 2**63), learning_rate=st.floats(1e-9, 1e9)).map(
        lambda spec: dataclasses.replace(spec, n_steps=10**6, n_segments=10)
    ),
    facts=json_objects,
    lines=st.lists(
        st.tuples(
            counts, st.lists(st.tuples(counts, finite, finite), max_size=4), finite, finite, counts
        ),
        max_size=4,
    ),
    state=st.sampled_from([TrialState.PRUNED, TrialState.FAIL]),
    reason=st.text(),
)
def test_trial_reads_back_as_written(  # noqa: PLR0913, PLR0917 (what the property ranges over)
    scratch: Path,
    spec: TrialSpec,
    facts: dict[str, Any],
    lines: list[tuple[int, list[tuple[int, float, float]], float, float, int]],
    state: TrialState,
    reason: str,
) -> None:
    journal = Journal(scratch / "whole")
    number, facts = len(journal.numbers()), facts | FACTS
    journal.start(number, spec, facts)
    curve = []
    for segment, (step, train, dev_loss, wall_s, ended_ms) in enumerate(lines, start=1):
        weights = weights_of(segment)
        curve.append(
            SegmentRecord(
                segment=segment,
                step=step,
                train=tuple(train),
                dev_loss=dev_loss,
                wall_s=wall_s,
                ended_ms=ended_ms,
                weights_sha256=hashlib.sha256(weights).hexdigest(),
            )
        )
        journal.append(number, curve[-1], weights)
    running = TrialRecord(number=number, spec=spec, facts=facts, curve=tuple(curve))

    assert journal.read(number) == running
    assert not journal.has_ended(number)

    outcome = Outcome(
        state=state,
        reason=reason,
        failure="error" if state == TrialState.FAIL else None,
        ended_ms=5,
    )
    journal.finish(number, outcome)

    assert journal.read(number) == TrialRecord(
        number=number, spec=spec, facts=facts, curve=tuple(curve), outcome=outcome
    )
    assert journal.has_ended(number)
    assert journal.read(number) == journal.records()[number]
    if curve:
        assert journal.read_weights(running) == weights_of(len(curve))


@settings(max_examples=40, deadline=None)
@given(reason=any_text, error=any_text)
def test_trial_may_fail_with_any_message(scratch: Path, reason: str, error: str) -> None:
    journal = begin(scratch / "any")

    journal.finish(0, Outcome(state=TrialState.FAIL, reason=reason, ended_ms=5), error=error)

    outcome = journal.read(0).outcome
    assert outcome is not None
    assert outcome.reason == reason.encode("utf-8", "backslashreplace").decode()
    if error:
        written = (journal.trial_folder(0) / "error.txt").read_bytes()
        assert written == error.encode("utf-8", "backslashreplace")


def test_samples_and_traceback_lie_beside_the_trial(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    append(journal, 1, samples=["zoë", "emma"])
    journal.finish(
        0, Outcome(state=TrialState.FAIL, reason="x", ended_ms=1), error="Traceback: é\n"
    )

    folder = journal.trial_folder(0)

    assert (folder / "samples.txt").read_text(encoding="utf-8") == "zoë\nemma\n"
    assert (folder / "error.txt").read_text(encoding="utf-8") == "Traceback: é\n"
    assert json.loads((folder / "spec.json").read_bytes()) == {
        "spec": SPEC.to_json(),
        "facts": FACTS,
    }


def test_trials_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in (10_000, 3, 9_999, 0):
        journal.start(number, SPEC, FACTS)
    (tmp_path / "trials" / "notes").mkdir()
    (tmp_path / "trials" / "notes" / "spec.json").write_text("{}")
    (tmp_path / "trials" / "0004").mkdir()  # killed before its spec was written

    assert journal.numbers() == [0, 3, 9_999, 10_000]
    assert [record.number for record in journal.records()] == [0, 3, 9_999, 10_000]


# What a record says of itself.


def test_record_counts_its_curve(study: Study) -> None:
    begun = study.begin(0)
    assert (begun.state, begun.dev_loss, begun.best, begun.wall_s, begun.steps_per_s) == (
        "RUNNING",
        None,
        None,
        0,
        None,
    )

    weights = weights_of(1)
    curve = [line_of(i, weights, loss) for i, loss in enumerate((2.5, 2.25, 2.25, 2.75), start=1)]
    record = TrialRecord(number=0, spec=SPEC, facts=FACTS, curve=curve, outcome=ENDED)

    assert (record.state, record.dev_loss, record.wall_s) == ("PRUNED", 2.75, 2.0)
    assert record.best is not None
    assert record.best.segment == 2
    assert record.steps_per_s == 4 * 12_000 / 2.0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(TrialState)),
            st.lists(st.sampled_from([0.0, 0.5, 2.0, 2.5]), max_size=2),
        ).filter(lambda pair: pair[0] != "COMPLETE" or pair[1])
    ),
    st.randoms(use_true_random=False),
)
def test_best_trial_is_the_lowest_complete_one(
    rows: list[tuple[TrialState, list[float]]], shuffler: random.Random
) -> None:
    trials = [
        TrialRecord(
            number=number,
            spec=SPEC,
            facts=FACTS,
            curve=[line_of(i, b"", loss) for i, loss in enumerate(losses, start=1)],
            outcome=None if state == "RUNNING" else Outcome(state=state, ended_ms=1),
        )
        for number, (state, losses) in enumerate(rows)
    ]
    scores = [(losses[-1], n) for n, (state, losses) in enumerate(rows) if state == "COMPLETE"]
    shuffler.shuffle(trials)

    best = best_trial(iter(trials))

    assert (None if best is None else best.number) == (min(scores)[1] if scores else None)


# Killed at any moment.

WRITER = """
import hashlib, json, os, signal, sys
from pathlib import Path
from mmsearch.model.spec import TrialSpec
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialState

SPEC = TrialSpec.from_json(json.loads(sys.argv[5]))
FACTS = {"started_ms": 1_700_000_000_000, "n_parameters": 11_897}
folder, n_segments, n_bytes, n_events = Path(sys.argv[1]), *map(int, sys.argv[2:5])

def die_at_event(name, _arguments):
    # Python announces each open, mkdir and rename before it is done.
    global n_events
    if name in ("open", "os.mkdir", "os.rename"):
        n_events -= 1
        if n_events == 0:
            os.kill(os.getpid(), signal.SIGKILL)

journal = Journal(folder)
if n_events:
    sys.addaudithook(die_at_event)
journal.create()
begun = 0
if 0 in journal.numbers():
    begun = len(journal.resume(0)[0])
else:
    journal.start(0, SPEC, FACTS)
for segment in range(begun + 1, n_segments + 1):
    weights = hashlib.shake_256(str(segment).encode()).digest(n_bytes)
    train = ((segment * 12_000 - 6_000, 2.5, 0.2), (segment * 12_000, 2.25, 0.1))
    record = SegmentRecord(
        segment=segment, step=segment * 12_000, train=train, dev_loss=2.0 + 1.0 / segment,
        wall_s=0.5, ended_ms=1_700_000_000_000 + segment,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    journal.append(0, record, weights, ["emma"] if segment == n_segments else ())
    os.write(1, f"{segment}\\n".encode())
if not journal.has_ended(0):
    journal.finish(0, Outcome(state=TrialState.PRUNED, ended_ms=1_700_000_009_000))
"""


def writer(folder: Path, n_segments: int, n_bytes: int, n_events: int = 0) -> list[str]:
    """Return the command that writes trial 0 or goes on with it, and dies at an event if any."""
    numbers = map(str, (n_segments, n_bytes, n_events))
    return [sys.executable, "-c", WRITER, str(folder), *numbers, json.dumps(SPEC.to_json())]


def check_prefix(folder: Path, n_bytes: int) -> int:
    """Check that the files are those of an undisturbed trial, up to some segment: give it."""
    journal = Journal(folder)
    if journal.numbers() == []:
        return 0
    before = journal.read(0)
    assert (before.spec, before.facts) == (SPEC, FACTS)
    curve, weights = journal.resume(0)
    assert list(curve) == [line_of(n, weights_of(n, n_bytes)) for n in range(1, len(curve) + 1)]
    assert weights == (weights_of(len(curve), n_bytes) if curve else None)
    assert len(before.curve) - len(curve) in {0, 1}
    after = journal.read(0)
    assert list(after.curve) == list(curve)
    if curve:
        assert journal.read_weights(after) == weights
    return len(curve)


def test_writer_killed_at_any_step_carries_on_to_the_same_files(tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole", n_segments=1)
    append(whole, 2, samples=["emma"])
    whole.finish(0, ENDED)
    expected = files(whole.folder)

    n_kills, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        folder = tmp_path / f"killed-{n_kills}"
        n_kills += 1
        command = writer(folder, 2, 1000, n_kills)
        status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
        n_whole = check_prefix(folder, 1000)
        killed = Journal(folder)
        if not killed.numbers():
            killed = begin(folder)
        for segment in range(n_whole + 1, 3):
            append(killed, segment, samples=["emma"] if segment == 2 else ())
        if not killed.has_ended(0):
            killed.finish(0, ENDED)
        assert files(folder) == expected
    assert status == 0
    assert n_kills > 12  # three folders, four appends and renames, at the least


def test_writer_killed_again_and_again_loses_nothing_it_has_said(tmp_path: Path) -> None:
    moments = random.Random(20_260_801)  # noqa: S311 (not a secret)
    folder, n_bytes = tmp_path / "names", 400_000
    n_done = 0

    for _ in range(10):
        process = subprocess.Popen(writer(folder, 10**6, n_bytes), stdout=subprocess.PIPE)
        assert process.stdout is not None
        said = process.stdout.readline()
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        said += process.stdout.read()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        acknowledged = int(said.split()[-1])

        n_whole = check_prefix(folder, n_bytes)

        assert n_whole >= acknowledged > n_done
        n_done = n_whole


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_torn_last_line_counts_as_not_written(scratch: Path, data: st.DataObject) -> None:
    journal = begin(scratch / "torn")
    path = journal.trial_folder(0) / "curve.jsonl"
    path.unlink(missing_ok=True)
    append(journal, 1)
    first = path.read_bytes()
    append(journal, 2)
    cut = data.draw(st.integers(len(first), path.stat().st_size - 1))
    os.truncate(path, cut)
    journal.weights_path(0).write_bytes(weights_of(1))

    assert [record.segment for record in journal.read(0).curve] == [1]

    curve, weights = journal.resume(0)

    assert [record.segment for record in curve] == [1]
    assert weights == weights_of(1)
    assert path.read_bytes() == first
    again = append(journal, 2)
    assert list(journal.read(0).curve) == [*curve, again]


def test_weights_one_segment_behind_take_the_curve_back_by_one(tmp_path: Path) -> None:
    journal = begin(tmp_path, n_segments=3)
    journal.weights_path(0).write_bytes(weights_of(2))

    assert journal.read_weights(journal.read(0)) == weights_of(2)  # a reader of a live study
    curve, weights = journal.resume(0)

    assert [record.segment for record in curve] == [1, 2]
    assert weights == weights_of(2)
    assert list(journal.read(0).curve) == list(curve)
    assert journal.resume(0) == (curve, weights)


@pytest.mark.parametrize("found", [None, b"", b"x" * 1000, weights_of(9)])
def test_trial_without_its_weights_begins_anew(tmp_path: Path, found: bytes | None) -> None:
    journal = begin(tmp_path, n_segments=3)
    journal.weights_path(0).unlink()
    if found is not None:
        journal.weights_path(0).write_bytes(found)

    assert journal.resume(0) == ([], None)
    assert journal.read(0).curve == ()
    append(journal, 1)
    assert journal.resume(0)[1] == weights_of(1)


# Damage.

FILES = ("spec.json", "curve.jsonl", "outcome.json")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    """Return a journal whose trial 0 the tests below damage, each after `restore`."""
    journal = begin(tmp_path_factory.mktemp("damaged") / "names", n_segments=3)
    journal.finish(0, Outcome(state=TrialState.PRUNED, reason="pruned at step 500", ended_ms=5))
    return journal


@pytest.fixture(scope="module")
def restore(damaged: Journal) -> Callable[[], None]:
    """Put back what was there."""
    whole = files(damaged.folder)

    def put_back() -> None:
        for name, content in whole.items():
            (damaged.folder / name).write_bytes(content)

    return put_back


def check_reads_or_names(journal: Journal, name: str) -> None:
    """Read trial 0: it may go well, or end in a `JournalError` that names the file."""
    calls: list[Callable[[int], object]] = [journal.read]
    if name == "curve.jsonl":
        calls.append(journal.resume)
    for call in calls:
        try:
            call(0)
        except JournalError as error:
            assert str(journal.trial_folder(0)) in str(error)  # noqa: PT017 (may pass)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(FILES), data=st.data())
def test_damaged_file_ends_in_no_other_error(
    damaged: Journal, restore: Callable[[], None], name: str, data: st.DataObject
) -> None:
    restore()
    path = damaged.trial_folder(0) / name
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        content = bytearray(data.draw(st.binary() | st.text().map(str.encode)))
    path.write_bytes(content)

    check_reads_or_names(damaged, name)


@pytest.mark.parametrize("name", ["spec.json", "outcome.json"])
@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1))
def test_cut_file_is_refused(
    damaged: Journal, restore: Callable[[], None], name: str, where: float
) -> None:
    restore()
    path = damaged.trial_folder(0) / name
    n_bytes = len(path.read_bytes().rstrip()) - 1
    os.truncate(path, round(where * n_bytes))

    refusal(lambda: damaged.read(0), path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("spec.json", b"{}"),
        ("spec.json", b"[]"),
        ("spec.json", b"null"),
        ("spec.json", b'{"spec": {}}'),
        ("spec.json", b'{"spec": 3, "facts": {}}'),
        ("spec.json", b"[" * 100_000),
        ("spec.json", b"\xff\xfe"),
        ("outcome.json", b"{}"),
        ("outcome.json", b'{"state": "COMPLETE"}'),
        ("outcome.json", b'{"state": "COMPLETF", "reason": "", "ended_ms": 5}'),
        ("outcome.json", b'{"state": ["FAIL"], "reason": "", "ended_ms": 5}'),
        ("outcome.json", b'{"state": "FAIL", "reason": "", "ended_ms": 5, "more": 1}'),
        ("curve.jsonl", b"{}\n"),
        ("curve.jsonl", b"[]\n"),
        ("curve.jsonl", b"\n"),
        ("curve.jsonl", b"[" * 100_000 + b"\n"),
        ("curve.jsonl", b'{"train": [[1e400, 2.0, 0.1]]}\n'),
        ("curve.jsonl", b'{"train": [[1, %s, 0.1]]}\n' % (b"9" * 400)),
        ("curve.jsonl", b'{"train": [[1, 2.0]]}\n'),
        ("curve.jsonl", b'{"train": [[1, {}, 0.1]]}\n'),
    ],
)
def test_file_of_another_shape_is_refused(
    damaged: Journal, restore: Callable[[], None], name: str, content: bytes
) -> None:
    restore()
    path = damaged.trial_folder(0) / name
    path.write_bytes(content)

    refusal(lambda: damaged.read(0), path)
    path.unlink()
    path.mkdir()
    refusal(lambda: damaged.read(0), path)
    path.rmdir()


def test_damage_in_the_middle_names_the_line(tmp_path: Path) -> None:
    journal = begin(tmp_path, n_segments=3)
    path = journal.trial_folder(0) / "curve.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-20] + b"\n" + lines[2])

    assert "line 2" in refusal(lambda: journal.read(0), path)
    assert "line 2" in refusal(lambda: journal.resume(0), path)
    assert path.read_bytes().splitlines(keepends=True)[0] == lines[0]


def test_curve_with_an_odd_blank_loses_no_line_on_resume(tmp_path: Path) -> None:
    journal = begin(tmp_path, n_segments=2)
    path = journal.trial_folder(0) / "curve.jsonl"
    path.write_bytes(path.read_bytes().replace(b" ", b"\r", 1))

    curve, _ = journal.resume(0)

    assert [record.segment for record in curve] == [1, 2]
    assert list(journal.read(0).curve) == list(curve)


def test_what_is_missing_or_cut_is_refused(tmp_path: Path) -> None:
    journal = begin(tmp_path)
    (tmp_path / "study.json").write_bytes(b'{"seed": 1')

    assert issubclass(JournalError, MMSearchError)
    refusal(lambda: journal.read(7), journal.trial_folder(7) / "spec.json")
    refusal(journal.read_study, tmp_path / "study.json")
    refusal(lambda: journal.read_weights(journal.read(0)), journal.weights_path(0))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_weights_are_refused(
    damaged: Journal, restore: Callable[[], None], data: st.DataObject
) -> None:
    restore()
    path = damaged.weights_path(0)
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[where] ^= data.draw(st.integers(1, 255))
    else:
        del content[where:]
    path.write_bytes(content)

    refusal(lambda: damaged.read_weights(damaged.read(0)), path)


def test_older_weights_do_not_pass_for_those_of_an_ended_trial(tmp_path: Path) -> None:
    journal = begin(tmp_path, n_segments=3)
    journal.finish(0, ENDED)
    journal.weights_path(0).write_bytes(weights_of(2))

    refusal(lambda: journal.read_weights(journal.read(0)), journal.weights_path(0))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"spec": {"seed": -1}}, "spec.json"),
        ({"spec": {"n_segments": 1}}, "0000"),
        ({"facts": {"started_ms": None}}, "0000"),
        ({"facts": {"versions": 3}}, "0000"),
    ],
)
def test_record_that_breaks_the_rules_of_its_spec_is_refused(
    tmp_path: Path, change: dict[str, dict[str, object]], named: str
) -> None:
    journal = begin(tmp_path, n_segments=2)
    path = journal.trial_folder(0) / "spec.json"
    start = json.loads(path.read_bytes())
    path.write_text(json.dumps({name: start[name] | change.get(name, {}) for name in start}))

    with pytest.raises(JournalError, match=named):
        journal.read(0)


@pytest.mark.parametrize(
    ("reason", "failure"),
    [("the dev loss is not finite at step 3 of 100", "diverged"), ("its worker died", "error")],
)
def test_failure_of_an_older_version_is_told_by_its_reason(
    tmp_path: Path, reason: str, failure: str
) -> None:
    journal = begin(tmp_path)
    path = journal.trial_folder(0) / "spec.json"
    start = json.loads(path.read_bytes())
    del start["spec"]["context_noise"]
    path.write_text(json.dumps(start))
    outcome = {"state": "FAIL", "reason": reason, "ended_ms": 5}
    (journal.trial_folder(0) / "outcome.json").write_text(json.dumps(outcome))

    record = journal.read(0)

    assert record.outcome is not None
    assert record.outcome.failure == failure
    assert record.divergence == (reason if failure == "diverged" else "")
    assert record.spec == SPEC


# Files.


def test_folders_are_private_to_their_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        journal = begin(tmp_path / "names")
    finally:
        os.umask(before)

    for folder in (journal.folder, journal.folder / "trials", journal.trial_folder(0)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_files_are_replaced_and_not_written_over(tmp_path: Path) -> None:
    journal = begin(tmp_path, n_segments=1)
    journal.write_study({"seed": 1})
    study, weights = journal.folder / "study.json", journal.weights_path(0)
    left = journal.trial_folder(0) / ".weights.safetensors.new"
    left.write_bytes(weights_of(2)[:10])  # by a writer that was killed

    assert journal.resume(0)[1] == weights_of(1)
    with study.open("rb") as old_study, weights.open("rb") as old_weights:
        journal.write_study({"seed": 2})
        append(journal, 2)
        assert json.loads(old_study.read()) == {"seed": 1}
        assert old_weights.read() == weights_of(1)

    assert journal.read_study() == {"seed": 2}
    assert weights.read_bytes() == weights_of(2)
    assert not list(tmp_path.rglob("*.new"))


# The disk is full.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    ("name", "stands_in"),
    [
        ("study.json", ".study.json.new"),
        ("trials/0000/spec.json", "trials/0000/.spec.json.new"),
        ("trials/0000/curve.jsonl", "trials/0000/curve.jsonl"),
        ("trials/0000/samples.txt", "trials/0000/.samples.txt.new"),
        ("trials/0000/weights.safetensors", "trials/0000/.weights.safetensors.new"),
        ("trials/0000/error.txt", "trials/0000/.error.txt.new"),
        ("trials/0000/outcome.json", "trials/0000/.outcome.json.new"),
    ],
)
def test_write_that_fails_names_the_file(tmp_path: Path, name: str, stands_in: str) -> None:
    journal = begin(tmp_path)
    (tmp_path / stands_in).symlink_to("/dev/full")

    def write_all() -> None:
        journal.write_study({"seed": 1})
        journal.start(0, SPEC, FACTS)
        append(journal, 1, samples=["emma"])
        journal.finish(0, Outcome(state=TrialState.FAIL, reason="x", ended_ms=1), error="Traceback")

    assert "No space left" in refusal(write_all, tmp_path / name)


@pytest.mark.parametrize("below", ["", "trials", "trials/0000"])
def test_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    study = tmp_path / "names"
    (study / below).parent.mkdir(parents=True, exist_ok=True)
    (study / below).write_bytes(b"")
    journal = Journal(study)

    def begin_trial() -> None:
        journal.create()
        journal.start(0, SPEC, FACTS)

    with pytest.raises(JournalError, match=r"cannot be made: File exists|Not a directory") as error:
        begin_trial()
    assert str(study) in str(error.value)
