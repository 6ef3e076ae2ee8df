"""The journal: what is written reads back, whatever kills the writer or damages a file."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.errors import MMSearchError
from mmsearch.model.curve import CurvePoint
from mmsearch.model.spec import TrialSpec
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

SPEC = make_spec(n_steps=12_000_000_000, n_segments=1_000_000)
FACTS = {"started_ms": 1_700_000_000_000, "n_parameters": 11_897}
ENDED = Outcome(state=TrialState.PRUNED, ended_ms=1_700_000_009_000)
FAILED = Outcome(state=TrialState.FAIL, reason="x", ended_ms=1)

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


def weights_of(segment: int) -> bytes:
    """Make bytes that stand for the weights after a segment."""
    return hashlib.shake_256(str(segment).encode()).digest(1000)


def line_of(segment: int, dev_loss: float | None = None) -> SegmentRecord:
    """Make the record of a segment."""
    return SegmentRecord(
        segment=segment,
        step=segment * 12_000,
        train=(
            CurvePoint(segment * 12_000 - 6_000, 2.5, 0.2),
            CurvePoint(segment * 12_000, 2.25, 0.1),
        ),
        dev_loss=2.0 + 1.0 / segment if dev_loss is None else dev_loss,
        wall_s=0.5,
        ended_ms=1_700_000_000_000 + segment,
        weights_sha256=hashlib.sha256(weights_of(segment)).hexdigest(),
    )


def append(journal: Journal, segment: int, samples: Sequence[str] = ()) -> SegmentRecord:
    """Append a segment to trial 0."""
    record = line_of(segment)
    journal.append(0, [record], weights_of(segment), samples)
    return record


def begin(folder: Path, n_segments: int = 0) -> Journal:
    """Start trial 0 in a journal of its own."""
    journal = Journal(folder)
    journal.create()
    journal.start(0, SPEC, FACTS)
    for segment in range(1, n_segments + 1):
        append(journal, segment)
    return journal


def segments_of(journal: Journal) -> list[int]:
    return [line.segment for line in journal.read(0).curve]


def refusal(call: Callable[[], object], path: Path) -> str:
    """Return the message of a journal error: one line that names the file."""
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


def test_study_that_has_not_begun_is_nothing_and_no_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "names")

    assert journal.name == "names"
    assert journal.read_study() is None
    assert journal.numbers() == []
    assert journal.records() == []


@settings(max_examples=30)
@given(facts=json_objects)
def test_study_facts_read_back_as_written(scratch: Path, facts: dict[str, Any]) -> None:
    journal = Journal(scratch)
    facts |= {"corpus": os.fsdecode(b"/data/na\xffmes.txt")}  # a path need not be UTF-8

    journal.write_study(facts)

    assert journal.read_study() == facts


@settings(max_examples=30)
@given(
    spec=st.builds(make_spec, seed=st.integers(0, 2**63), learning_rate=st.floats(1e-9, 1e9)).map(
        lambda spec: dataclasses.replace(spec, n_steps=10**6, n_segments=10)
    ),
    facts=json_objects,
    curve=st.lists(
        st.builds(
            SegmentRecord,
            segment=st.none(),
            step=counts,
            train=st.lists(st.tuples(counts, finite, finite), max_size=4).map(tuple),
            dev_loss=finite,
            wall_s=finite,
            ended_ms=counts,
            weights_sha256=st.none(),
        ),
        max_size=4,
    ),
    state=st.sampled_from([TrialState.PRUNED, TrialState.FAIL]),
    reason=any_text,
    error=any_text,
)
def test_trial_reads_back_as_written(  # noqa: PLR0913, PLR0917 (what the property ranges over)
    scratch: Path,
    spec: TrialSpec,
    facts: dict[str, Any],
    curve: list[SegmentRecord],
    state: TrialState,
    reason: str,
    error: str,
) -> None:
    """To the bit; an error's text may hold what is not UTF-8, which is then escaped."""
    journal = Journal(scratch / "whole")
    number = len(journal.numbers())
    journal.start(number, spec, facts | FACTS)
    for n, line in enumerate(curve, start=1):
        named = line_of(n)
        curve[n - 1] = msgspec.structs.replace(line, segment=n, weights_sha256=named.weights_sha256)
        journal.append(number, curve[n - 1 : n], weights_of(n))
    running = TrialRecord(number=number, spec=spec, facts=facts | FACTS, curve=tuple(curve))
    assert journal.read(number) == running
    assert not journal.has_ended(number)

    outcome = Outcome(
        state=state,
        reason=reason,
        failure="error" if state == TrialState.FAIL else None,
        ended_ms=5,
    )
    journal.finish(number, outcome, error=error)

    told = reason.encode("utf-8", "backslashreplace").decode()
    ended = dataclasses.replace(running, outcome=msgspec.structs.replace(outcome, reason=told))
    assert journal.read(number) == journal.records()[number] == ended
    assert journal.has_ended(number)
    if curve:
        assert journal.read_weights(running) == weights_of(len(curve))
    if error:
        written = (journal.trial_folder(number) / "error.txt").read_bytes()
        assert written == error.encode("utf-8", "backslashreplace")


def test_trials_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in (10_000, 3, 9_999, 0):
        journal.start(number, SPEC, FACTS)
    (tmp_path / "trials" / "notes").mkdir()
    (tmp_path / "trials" / "notes" / "spec.json").write_text("{}")
    (tmp_path / "trials" / "0004").mkdir()  # killed before its spec was written

    assert journal.numbers() == [0, 3, 9_999, 10_000]
    assert [record.number for record in journal.records()] == [0, 3, 9_999, 10_000]


def test_record_sums_its_curve_up() -> None:
    begun = TrialRecord(number=0, spec=SPEC, facts=FACTS)
    assert (begun.state, begun.wall_s) == ("RUNNING", 0)
    assert (begun.dev_loss, begun.best, begun.steps_per_s) == (None, None, None)

    curve = [line_of(i, loss) for i, loss in enumerate((2.5, 2.25, 2.25, 2.75), start=1)]
    record = dataclasses.replace(begun, curve=curve, outcome=ENDED)

    assert (record.state, record.dev_loss, record.wall_s) == ("PRUNED", 2.75, 2.0)
    assert record.best == curve[1]
    assert record.steps_per_s == 4 * 12_000 / 2.0


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(TrialState)),
            st.lists(st.sampled_from([0.0, 0.5, 2.0, 2.5]), max_size=2),
        ).filter(lambda pair: pair[0] != "COMPLETE" or pair[1])
    ),
    st.randoms(use_true_random=False),
)
def test_best_trial_is_the_first_complete_one_with_the_lowest_loss(
    rows: list[tuple[TrialState, list[float]]], shuffler: random.Random
) -> None:
    trials = [
        TrialRecord(
            number=number,
            spec=SPEC,
            facts=FACTS,
            curve=[line_of(i, loss) for i, loss in enumerate(losses, start=1)],
            outcome=None if state == "RUNNING" else Outcome(state=state, ended_ms=1),
        )
        for number, (state, losses) in enumerate(rows)
    ]
    scores = [(losses[-1], n) for n, (state, losses) in enumerate(rows) if state == "COMPLETE"]
    shuffler.shuffle(trials)

    best = best_trial(iter(trials))

    assert (None if best is None else best.number) == (min(scores)[1] if scores else None)


# Killed at any moment.


def fork(write: Callable[[], None]) -> int:
    """Run a function in a process of its own, and return the process's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons: the tests' process may have threads
        pid = os.fork()
    if pid:
        return pid
    try:
        write()
        os._exit(0)
    finally:
        os._exit(1)


def write_trial(folder: Path, acknowledge: int | None = None) -> None:
    """Write trial 0, or go on with it, and acknowledge each segment on a file descriptor."""
    journal = Journal(folder)
    journal.create()
    if not journal.numbers():
        journal.start(0, SPEC, FACTS)
    for segment in range(len(journal.resume(0)[0]) + 1, 3):
        append(journal, segment, samples=["emma"] if segment == 2 else ())
        if acknowledge is not None:
            os.write(acknowledge, b"x")
    if not journal.has_ended(0):
        journal.finish(0, ENDED)


def check_prefix(folder: Path) -> int:
    """Check that the files are those of an undisturbed trial up to some segment, and return it."""
    journal = Journal(folder)
    if journal.numbers() == []:
        return 0
    before = journal.read(0)
    assert (before.spec, before.facts) == (SPEC, FACTS)
    curve, weights = journal.resume(0)
    assert list(curve) == [line_of(n) for n in range(1, len(curve) + 1)]
    assert weights == (weights_of(len(curve)) if curve else None)
    assert len(before.curve) - len(curve) in {0, 1}
    after = journal.read(0)
    assert list(after.curve) == list(curve)
    if curve:
        assert journal.read_weights(after) == weights
    return len(curve)


def test_writer_killed_at_any_step_carries_on_to_the_same_files(tmp_path: Path) -> None:
    """It is killed before each open, mkdir and rename in turn; no acknowledged segment is lost."""
    write_trial(tmp_path / "whole")
    expected = files(tmp_path / "whole")

    def die_within(folder: Path, n_events: int, acknowledge: int) -> None:
        def die_at_event(name: str, _arguments: object) -> None:
            nonlocal n_events
            if name in {"open", "os.mkdir", "os.rename"}:
                n_events -= 1
                if n_events == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die_at_event)
        write_trial(folder, acknowledge)

    n_kills, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        n_kills += 1
        folder = tmp_path / f"killed-{n_kills}"
        reading, writing = os.pipe()
        pid = fork(functools.partial(die_within, folder, n_kills, writing))
        os.close(writing)
        with os.fdopen(reading, "rb") as acknowledged:
            n_acknowledged = len(acknowledged.read())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert check_prefix(folder) >= n_acknowledged
        write_trial(folder)
        assert files(folder) == expected
    assert status == 0
    assert n_kills > 13  # three folders, four appends and renames, at the least


@settings(max_examples=40)
@given(st.data())
def test_torn_last_line_counts_as_not_written(scratch: Path, data: st.DataObject) -> None:
    """The next line is not joined to what is left."""
    journal = begin(scratch / "torn")
    path = journal.trial_folder(0) / "curve.jsonl"
    path.unlink(missing_ok=True)
    append(journal, 1)
    first = path.read_bytes()
    append(journal, 2)
    os.truncate(path, data.draw(st.integers(len(first), path.stat().st_size - 1)))
    journal.weights_path(0).write_bytes(weights_of(1))
    assert segments_of(journal) == [1]

    curve, weights = journal.resume(0)

    assert ([record.segment for record in curve], weights) == ([1], weights_of(1))
    assert path.read_bytes() == first
    again = append(journal, 2)
    assert list(journal.read(0).curve) == [*curve, again]


@pytest.mark.parametrize(
    ("found", "n_kept"),
    [(weights_of(2), 2), (weights_of(9), 0), (b"x" * 1000, 0), (b"", 0), (None, 0)],
)
def test_curve_goes_back_to_the_weights_on_disk(
    tmp_path: Path, found: bytes | None, n_kept: int
) -> None:
    """A crash between the two writes leaves weights one segment behind; others begin anew."""
    journal = begin(tmp_path, n_segments=3)
    journal.weights_path(0).unlink()
    if found is not None:
        journal.weights_path(0).write_bytes(found)
    if n_kept:
        assert journal.read_weights(journal.read(0)) == found  # a reader of a live study

    for _ in range(2):
        curve, weights = journal.resume(0)
        assert segments_of(journal) == [line.segment for line in curve] == [*range(1, n_kept + 1)]
        assert weights == (found if n_kept else None)

    append(journal, n_kept + 1)
    assert journal.resume(0)[1] == weights_of(n_kept + 1)
    journal.finish(0, ENDED)
    journal.weights_path(0).write_bytes(weights_of(n_kept))  # the score is of the last weights
    refusal(lambda: journal.read_weights(journal.read(0)), journal.weights_path(0))


# Damage.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Journal, dict[str, bytes]]:
    """Write a journal once, and return it with its files."""
    journal = begin(tmp_path_factory.mktemp("damaged") / "names", n_segments=3)
    journal.finish(0, Outcome(state=TrialState.PRUNED, reason="pruned at step 500", ended_ms=5))
    return journal, files(journal.folder)


NAMES = ["spec.json", "curve.jsonl", "outcome.json", "weights.safetensors"]


@settings(max_examples=250)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_damaged_file_is_refused_by_name_or_reads(
    whole: tuple[Journal, dict[str, bytes]], name: str, data: st.DataObject
) -> None:
    """Bytes changed, cut or replaced; half of a file that is replaced whole is always refused."""
    journal, contents = whole
    for other, content in contents.items():
        (journal.folder / other).write_bytes(content)
    path = journal.trial_folder(0) / name
    original = path.read_bytes()
    kind = data.draw(st.sampled_from(["flipped", "cut", "replaced"]))
    damage = bytearray(original)
    where = data.draw(st.integers(0, len(original.rstrip()) - 2))
    if kind == "flipped":
        damage[where] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del damage[where:]
    else:
        damage = bytearray(data.draw(st.binary() | st.text().map(str.encode)))
    path.write_bytes(damage)

    def read() -> object:
        return journal.read_weights(journal.read(0))

    if name == "weights.safetensors" or (kind == "cut" and name != "curve.jsonl"):
        refusal(read, path)
        return
    for call in (lambda: journal.read(0), lambda: journal.resume(0)):
        try:
            call()
        except JournalError as error:  # and no other
            assert str(path.parent) in str(error)  # noqa: PT017 (it may read)


def changed(name: str, **values: Any) -> Callable[[bytes], bytes]:
    """Return what changes fields of a part of spec.json."""

    def change(content: bytes) -> bytes:
        parts = json.loads(content)
        return json.dumps({**parts, name: {**parts[name], **values}}).encode()

    return change


def changed_line(**values: Any) -> Callable[[bytes], bytes]:
    """Return what changes fields of the first line of a curve."""

    def change(content: bytes) -> bytes:
        first, rest = content.split(b"\n", 1)
        return json.dumps({**json.loads(first), **values}).encode() + b"\n" + rest

    return change


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        *(
            ("spec.json", content, "spec.json")
            for content in (
                *(b"{}", b"[]", b"null", b'{"spec": {}}', b'{"spec": 3, "facts": {}}'),
                *(b"[" * 100_000, b"\xff\xfe", None, changed("spec", seed=-1)),
            )
        ),
        # Each file is whole, and together they cannot be.
        ("spec.json", changed("spec", n_segments=1), "0000"),
        ("spec.json", changed("facts", started_ms=None), "0000"),
        ("spec.json", changed("facts", versions=3), "0000"),
        *(
            ("outcome.json", content, "outcome.json")
            for content in (
                b"{}",
                b'{"state": "COMPLETE"}',
                b'{"state": "COMPLETF", "reason": "", "ended_ms": 5}',
                b'{"state": ["FAIL"], "reason": "", "ended_ms": 5}',
                b'{"state": "FAIL", "reason": "", "ended_ms": 5, "more": 1}',
                None,
            )
        ),
        *(
            ("curve.jsonl", content, "curve.jsonl")
            for content in (
                *(b"{}\n", b"[]\n", b"\n", b"\xff\n", b"[" * 100_000 + b"\n", None),
                lambda content: re.sub(rb'"dev_loss": [^,]+', b'"dev_loss": 1e400', content),
            )
        ),
        *(
            ("curve.jsonl", changed_line(**values), "line 1")
            for values in (
                *({"segment": True}, {"step": 1.5}, {"ended_ms": -1}, {"weights_sha256": 3}),
                *({"dev_loss": math.nan}, {"wall_s": None}, {"dev_parts": {"half_1": "2"}}),
                *({"train": [[1, 2.0]]}, {"train": [[True, 2.0, 0.1]]}, {"train": [[1, {}, 0.1]]}),
                *({"train": [[1, 10**400, 0.1]]}, {"newer": 1}),
            )
        ),
        # Only the last line may be torn.
        ("curve.jsonl", lambda content: content.replace(b"\n", b"x\n", 2), "line 1"),
        ("study.json", b'{"seed": 1', "study.json"),
    ],
)
def test_file_of_another_shape_is_refused_by_name(
    tmp_path: Path, name: str, damage: bytes | Callable[[bytes], bytes] | None, named: str
) -> None:
    """None stands for a folder of that name."""
    journal = begin(tmp_path, n_segments=3)
    journal.finish(0, ENDED)
    journal.write_study({"seed": 1})
    path = (tmp_path if name == "study.json" else journal.trial_folder(0)) / name
    content = path.read_bytes()
    path.unlink()
    if damage is None:
        path.mkdir()
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else damage(content))

    with pytest.raises(JournalError, match=named):
        journal.read_study() if name == "study.json" else journal.read(0)
    assert issubclass(JournalError, MMSearchError)


def test_missing_trial_and_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    journal = begin(tmp_path)

    refusal(lambda: journal.read(7), journal.trial_folder(7) / "spec.json")
    refusal(lambda: journal.read_weights(journal.read(0)), journal.weights_path(0))


def test_study_that_is_moved_while_it_is_read_is_no_shorter_one(tmp_path: Path) -> None:
    """All of its trials, or an error; none if it had gone before."""
    journal = begin(tmp_path)
    for number in range(1, 300):
        shutil.copytree(journal.trial_folder(0), journal.trial_folder(number))
    trials, away = journal.trial_folder(0).parent, tmp_path / "away"
    for delay_ms in range(0, 40, 2):
        mover = threading.Timer(delay_ms / 1000, trials.rename, [away])
        mover.start()
        with contextlib.suppress(JournalError):
            assert len(journal.records()) in {0, 300}
        mover.join()
        away.rename(trials)


def test_resume_keeps_lines_before_a_damaged_one_and_lines_with_an_odd_blank(
    tmp_path: Path,
) -> None:
    """JSON takes a carriage return for a blank."""
    journal = begin(tmp_path, n_segments=3)
    path = journal.trial_folder(0) / "curve.jsonl"
    path.write_bytes(path.read_bytes().replace(b" ", b"\r", 1))
    assert len(journal.resume(0)[0]) == 3
    lines = path.read_bytes().splitlines(keepends=True)
    assert segments_of(journal) == [1, 2, 3]
    content = path.read_bytes().replace(b'"segment": 2', b'"segment": "')
    path.write_bytes(content)

    assert "line 2" in refusal(lambda: journal.resume(0), path)

    assert path.read_bytes() == content != b"".join(lines)


@pytest.mark.parametrize(
    ("reason", "failure"),
    [("the dev loss is not finite at step 3 of 100", "diverged"), ("its worker died", "error")],
)
def test_failure_of_an_older_version_is_told_by_its_reason(
    tmp_path: Path, reason: str, failure: str
) -> None:
    """Versions up to 0.2 stored no kind of failure, and no later field of the spec."""
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


def test_files_are_replaced_and_not_written_over(tmp_path: Path) -> None:
    """A reader sees the old file or the new one, after a crash of the writer too."""
    journal = begin(tmp_path, n_segments=1)
    journal.write_study({"seed": 1})
    study, weights = journal.folder / "study.json", journal.weights_path(0)
    left = weights.with_name(f".{weights.name}.new")
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    "name",
    [
        "study.json",
        *(f"trials/0000/{name}" for name in (*NAMES, "samples.txt", "error.txt")),
    ],
)
def test_full_disk_is_told_with_the_file(tmp_path: Path, name: str) -> None:
    journal = begin(tmp_path)
    path = tmp_path / name
    written = path if name.endswith(".jsonl") else path.with_name(f".{path.name}.new")
    written.symlink_to("/dev/full")

    def write_all() -> None:
        journal.write_study({"seed": 1})
        journal.start(0, SPEC, FACTS)
        append(journal, 1, samples=["emma"])
        journal.finish(0, FAILED, error="Traceback")

    assert "No space left" in refusal(write_all, path)


@pytest.mark.parametrize("below", ["", "trials", "trials/0000"])
def test_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    study = tmp_path / "names"
    (study / below).parent.mkdir(parents=True, exist_ok=True)
    (study / below).write_bytes(b"")

    with pytest.raises(JournalError) as error:
        begin(study)
    assert str(study) in str(error.value)
