"""One study's folder: what happened, durable and local.

    study.json                what the study is fixed to
    confirm.json              which trials are trained again, and how often
    baselines.json            dev losses of models that are counted, not trained
    trials/0007/spec.json     what the trial follows from
                curve.jsonl   one line a segment, in order
                weights.safetensors   after the last of those segments, or the one before
                samples.txt   words sampled from the final weights
                outcome.json  how it ended; written once, before Optuna and MLflow hear of it
                error.txt     the traceback, where there was one
    confirm/0000/             likewise, each confirmation of a trial from a fresh seed

Whole files are replaced atomically and lines are appended; both are flushed to the disk before
the call returns, but for the weights of a trial that has not ended. So a process killed at any
moment leaves every file as it was or as it should be, but for a last line that is not whole, which
counts as not written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from typing import TYPE_CHECKING, Any, get_args

from mmsearch.errors import InputError
from mmsearch.model.spec import TrialSpec
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.records import (
    Failure,
    Outcome,
    SegmentRecord,
    TrialRecord,
    TrialState,
    check_record,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


_FOLDERS = {"trial": "trials", "confirm": "confirm"}
CONFIRM_AGAIN = "move it away, and confirm again with: mmsearch confirm"
"""What a person can do about a damaged plan."""
COUNT_AGAIN = "move it away, and the next mmsearch run or confirm counts it again"
"""What a person can do about damaged baselines."""


class Journal:
    """Reads and writes one study's folder. One process writes it; any number may read.

    A study's trials and their confirmations are two journals over one folder.
    """

    def __init__(self, folder: Path, kind: str = "trial") -> None:
        """Open the journal; touches no file.

        Args:
            folder: the study's folder.
            kind: `trial` for the study's trials, `confirm` for their confirmations.
        """
        self.folder = folder
        self.kind = kind
        self._trials = folder / _FOLDERS[kind]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    def read_study(self) -> dict[str, Any] | None:
        """Give what the study is fixed to; None before it has begun.

        Raises:
            JournalError: the file is damaged.
        """
        path = self.folder / "study.json"
        return files.read_json(path) if files.exists(path) else None

    def create(self) -> None:
        """Make the study's folder, private to its owner."""
        files.make_folder(self.folder)

    def write_study(self, facts: Mapping[str, Any]) -> None:
        """Fix the study."""
        files.replace(self.folder / "study.json", files.json_bytes(facts))

    def delete_study(self) -> None:
        """Forget what the study is fixed to, where nothing has been trained yet."""
        (self.folder / "study.json").unlink(missing_ok=True)

    def read_plan(self) -> dict[str, Any] | None:
        """Give what was last asked to be confirmed; None where nothing was.

        Raises:
            JournalError: the file is damaged.
        """
        path = self.folder / "confirm.json"
        return files.read_json(path, CONFIRM_AGAIN) if files.exists(path) else None

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Note what is to be confirmed."""
        files.replace(self.folder / "confirm.json", files.json_bytes(plan))

    @property
    def baselines_path(self) -> Path:
        """Where the study's baselines lie."""
        return self.folder / "baselines.json"

    def read_baselines(self) -> Baselines | None:
        """Return the study's baselines; None where they have not been counted.

        Raises:
            JournalError: the file is damaged.
        """
        path = self.baselines_path
        if not files.exists(path):
            return None
        try:
            return Baselines.from_json(files.read_json(path, COUNT_AGAIN))
        except ValueError as error:
            raise files.damaged(path, error, COUNT_AGAIN) from error

    def write_baselines(self, baselines: Baselines) -> None:
        """Keep the study's baselines.

        Raises:
            JournalError: the file cannot be written.
        """
        files.replace(self.baselines_path, files.json_bytes(baselines.to_json()))

    def trial_folder(self, number: int) -> Path:
        """Where a trial's files lie."""
        return self._trials / f"{number:04d}"

    def weights_path(self, number: int) -> Path:
        """Where a trial's weights lie."""
        return self.trial_folder(number) / "weights.safetensors"

    def numbers(self) -> list[int]:
        """Trials that have begun, in order."""
        names = (name for name in files.listed(self._trials) if name.isdecimal())
        return sorted(number for number in map(int, names) if self.has_begun(number))

    def has_begun(self, number: int) -> bool:
        """Whether a trial has a spec."""
        return files.exists(self.trial_folder(number) / "spec.json")

    def has_ended(self, number: int) -> bool:
        """Whether a trial has an outcome."""
        return files.exists(self.trial_folder(number) / "outcome.json")

    def start(self, number: int, spec: TrialSpec, facts: Mapping[str, Any]) -> None:
        """Note that a trial begins."""
        # Each by itself: `parents` would make the one between as the umask says.
        files.make_folder(self._trials)
        files.make_folder(self.trial_folder(number))
        content = files.json_bytes({"spec": spec.to_json(), "facts": facts})
        files.replace(self.trial_folder(number) / "spec.json", content)

    def append(
        self, number: int, record: SegmentRecord, weights: bytes, samples: Sequence[str] = ()
    ) -> None:
        """Note one segment, then keep its weights, and the words sampled from them if any."""
        values = {name: getattr(record, name) for name in SegmentRecord.__slots__}
        values["dev_parts"] = dict(record.dev_parts)
        line = json.dumps(values, allow_nan=False).encode() + b"\n"
        files.append(self.trial_folder(number) / "curve.jsonl", line)
        if samples:
            content = "".join(f"{word}\n" for word in samples).encode()
            files.replace(self.trial_folder(number) / "samples.txt", content)
        # A loss of power may take these back: the trial then begins anew, and comes to the same.
        files.replace(self.weights_path(number), weights, is_flushed=False)

    def finish(self, number: int, outcome: Outcome, *, error: str = "") -> None:
        """Note how a trial ended, with the traceback it died of if any."""
        folder = self.trial_folder(number)
        if files.exists(self.weights_path(number)):
            files.flush(self.weights_path(number))
        if error:
            files.replace(folder / "error.txt", error.encode("utf-8", "backslashreplace"))
        values = dataclasses.asdict(outcome)
        if outcome.failure is None:
            del values["failure"]
        # An error's text may hold what no database and no terminal takes.
        values["reason"] = outcome.reason.encode("utf-8", "backslashreplace").decode()
        files.replace(folder / "outcome.json", files.json_bytes(values))

    def read(self, number: int) -> TrialRecord:
        """Read one trial.

        Raises:
            JournalError: a file is damaged.
        """
        folder = self.trial_folder(number)
        path = folder / "spec.json"
        start = files.read_json(path)
        spec, facts = start.get("spec"), start.get("facts")
        if not (isinstance(spec, dict) and isinstance(facts, dict)):
            raise files.damaged(path, "it lacks the spec or the facts")
        # Before the curve: what has an outcome when we look has its whole curve.
        outcome = _read_outcome(folder / "outcome.json")
        curve = _read_curve(folder / "curve.jsonl")
        try:
            spec = TrialSpec.from_json(spec)
        except InputError as error:
            raise files.damaged(path, error) from error
        record = TrialRecord(number=number, spec=spec, facts=facts, curve=curve, outcome=outcome)
        try:
            check_record(record)
        except InputError as error:
            raise files.damaged(folder, error) from error
        return record

    def read_weights(self, record: TrialRecord) -> bytes:
        """Read a trial's latest weights.

        Raises:
            JournalError: they are missing, or not the ones that the curve names.
        """
        path = self.weights_path(record.number)
        content = files.read_bytes(path)
        # While it runs, the curve is ahead of the weights for a moment.
        latest = record.curve[-1:] if record.outcome else record.curve[-2:]
        known = {segment.weights_sha256 for segment in latest}
        if hashlib.sha256(content).hexdigest() not in known:
            raise files.damaged(path, "its SHA-256 is not the recorded one")
        return content

    def read_samples(self, number: int) -> list[str]:
        """Read the words sampled from a trial's final weights; none where it has none.

        Raises:
            JournalError: the file cannot be read.
        """
        path = self.trial_folder(number) / "samples.txt"
        if not files.exists(path):
            return []
        return files.read_bytes(path).decode("utf-8", "backslashreplace").split("\n")[:-1]

    def resume(self, number: int) -> tuple[Sequence[SegmentRecord], bytes | None]:
        """Find the last segment whose weights are whole, and forget what came after it.

        Returns:
            The curve up to there and its weights; nothing and None to begin anew, which gives
            the same bits.
        """
        curve_path = self.trial_folder(number) / "curve.jsonl"
        curve = list(_read_curve(curve_path))
        path = self.weights_path(number)
        weights = files.read_bytes(path) if files.exists(path) else b""
        found = hashlib.sha256(weights).hexdigest()
        while curve and curve[-1].weights_sha256 != found:
            curve.pop()
        # Written anew without a torn line: an append after it would join the two.
        lines = files.read_bytes(curve_path).split(b"\n") if files.exists(curve_path) else []
        files.replace(curve_path, b"".join(line + b"\n" for line in lines[: len(curve)]))
        return curve, weights if curve else None

    def records(self) -> list[TrialRecord]:
        """Read all trials that have begun, in order."""
        return [self.read(number) for number in self.numbers()]


def _read_curve(path: Path) -> tuple[SegmentRecord, ...]:
    """Read a curve; a last line without its end was never written."""
    if not files.exists(path):
        return ()
    lines = files.read_bytes(path).split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            values = _DECODER.decode(line.decode())
            values["train"] = tuple(
                (int(step), float(loss), float(rate)) for step, loss, rate in values["train"]
            )
            record = SegmentRecord(**values)
            _check_segment(record)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise files.damaged(path, f"line {number}, {error}") from error
        records.append(record)
    return tuple(records)


def _check_segment(record: SegmentRecord) -> None:
    """Check that a line's values are what they say.

    Raises:
        ValueError: one is not.
    """
    counts = (record.segment, record.step, record.ended_ms)
    numbers = [record.dev_loss, record.wall_s, *record.dev_parts.values()]
    if record.train_loss is not None:
        numbers.append(record.train_loss)
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("segment, step and ended_ms must be non-negative integers")
    # The points are numbers already. Where their sum is finite, so are they, and that is faster.
    if not math.isfinite(sum(loss + rate for _, loss, rate in record.train)):
        numbers += (n for point in record.train for n in point)
    if not all(type(n) in {int, float} and math.isfinite(n) for n in numbers):
        raise ValueError("losses, rates and durations must be finite numbers")
    if not isinstance(record.weights_sha256, str):
        raise TypeError("the SHA-256 is no text")


def _refuse(name: str) -> float:
    """Take no NaN: what has diverged is never written."""
    raise ValueError(f"{name} is no loss")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _read_outcome(path: Path) -> Outcome | None:
    if not files.exists(path):
        return None
    values = files.read_json(path)
    try:
        values["state"] = TrialState(values["state"])
        outcome = Outcome(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise files.damaged(path, error) from error
    if outcome.state == TrialState.RUNNING:
        raise files.damaged(path, "a trial that has ended cannot be RUNNING")
    if not isinstance(outcome.reason, str) or type(outcome.ended_ms) is not int:
        raise files.damaged(path, "reason must be a string, and ended_ms an integer")
    if outcome.failure not in (None, *get_args(Failure)):
        raise files.damaged(path, f"failure must be one of {get_args(Failure)}")
    if outcome.state == TrialState.FAIL and outcome.failure is None:
        outcome = dataclasses.replace(outcome, failure=_failure_of(outcome.reason))
    return outcome


def _failure_of(reason: str) -> Failure:
    """Return the kind of a failure recorded by version 0.1 or 0.2, which wrote the reason alone."""
    return "diverged" if re.search(r" at step \d+ of \d+$", reason) else "error"
