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

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsearch.errors import InputError
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.baselines import Baselines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRecord:
    """One line of a trial's curve."""

    segment: int
    """Counted from 1."""
    step: int
    """Steps done when it ended."""
    train: Sequence[tuple[int, float, float]]
    """(step, mean minibatch loss in nats, learning rate)."""
    dev_loss: float
    """Loss on dev of the scored weights after it, in nats a character."""
    wall_s: float
    """Seconds of training and scoring."""
    ended_ms: int
    """Unix time of its end."""
    weights_sha256: str
    """SHA-256 of the weights file after it."""
    train_loss: float | None = None
    """Loss of the same weights on a fixed part of train, as many words as dev has, in nats a
    character; None in records of version 0.1."""
    dev_parts: Mapping[str, float] = field(default_factory=dict)
    """Loss of the same weights on parts of dev: `half_1` and `half_2`; and, where repeated words
    were kept, `in_train` for words that also stand in train and `not_in_train` for the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a trial ended."""

    state: str
    """Optuna's word: COMPLETE, PRUNED or FAIL."""
    reason: str = ""
    """Why it was pruned or failed; empty for COMPLETE."""
    ended_ms: int
    """Unix time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """All that the journal knows of one trial."""

    number: int
    """Optuna's trial number."""
    spec: Mapping[str, Any]
    """Hyperparameters, seed and budget."""
    facts: Mapping[str, Any]
    """What else is known at its start: `started_ms`, `n_parameters`, `versions`; of a
    confirmation also `trial`, the one it repeats, and `nth_seed`, counted from 1."""
    curve: Sequence[SegmentRecord] = field(default=())
    outcome: Outcome | None = None
    """None while it runs."""

    @property
    def name(self) -> str:
        """What a person knows it by."""
        if self.is_repeat:
            return f"trial {self.facts['trial']}, seed {self.facts['nth_seed']}"
        return f"trial {self.number}"

    @property
    def is_repeat(self) -> bool:
        """Whether it repeats a trial from a fresh seed."""
        return "nth_seed" in self.facts

    @property
    def state(self) -> str:
        """COMPLETE, PRUNED, FAIL or RUNNING."""
        return self.outcome.state if self.outcome else "RUNNING"

    @property
    def divergence(self) -> str:
        """The reason where it ended as diverged, not by a fault of its machine; else empty."""
        if self.outcome is None or self.outcome.state != "FAIL":
            return ""
        return (
            self.outcome.reason if re.search(r" at step \d+ of \d+$", self.outcome.reason) else ""
        )

    @property
    def scored(self) -> SegmentRecord | None:
        """The segment whose weights are the model: the best one so far, or the last one.

        A trial with `patience` keeps its best weights; one without keeps the last.
        """
        return self.best if self.spec.get("patience") else next(reversed(self.curve), None)

    @property
    def dev_loss(self) -> float | None:
        """Dev loss of the model, in nats a character; the score, where the trial is complete."""
        return self.scored.dev_loss if self.scored else None

    @property
    def best(self) -> SegmentRecord | None:
        """The segment with the lowest dev loss, the first of equals."""
        return min(self.curve, key=lambda record: record.dev_loss, default=None)

    @property
    def wall_s(self) -> float:
        """Seconds of training and scoring."""
        return sum(record.wall_s for record in self.curve)

    @property
    def steps_per_s(self) -> float | None:
        """SGD steps a second, scoring on dev included; None before the first segment."""
        return self.curve[-1].step / self.wall_s if self.wall_s > 0 else None


def ranked(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Give the complete trials, the lowest score first; of equals the earlier one."""
    return sorted((trial for trial in trials if trial.state == "COMPLETE"), key=_score)


def best_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """Give the complete trial with the lowest score; the earlier one of equals."""
    return next(iter(ranked(trials)), None)


def latest_ms(trial: TrialRecord) -> int:
    """Return the Unix time of the last thing that was written of a trial, in milliseconds."""
    if trial.outcome is not None:
        return trial.outcome.ended_ms
    return trial.curve[-1].ended_ms if trial.curve else int(trial.facts["started_ms"])


def undecided(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """Return the running trial whose latest segment is the last thing that was written.

    A killed search may or may not have decided yet whether to prune it; it had sent all other
    running trials on.
    """
    last_ms, found = -1, None
    for trial in trials:
        for segment in trial.curve[-1:]:
            if segment.ended_ms > last_ms:
                last_ms, found = segment.ended_ms, trial
        if trial.outcome and trial.outcome.ended_ms >= last_ms:
            last_ms, found = trial.outcome.ended_ms, None
    return found


def _score(trial: TrialRecord) -> tuple[float, int]:
    return (math.inf if trial.dev_loss is None else trial.dev_loss, trial.number)


_FOLDERS = {"trial": "trials", "confirm": "confirm"}
CONFIRM_AGAIN = "move it away, and confirm again with: mmsearch confirm"
"""What a person can do about a damaged plan."""
COUNT_AGAIN = "move it away, and the next mmsearch run or confirm counts it again"
"""What a person can do about damaged baselines."""


class Journal:
    """Reads and writes one study's folder. One process writes it; any number may read.

    A study's trials and their confirmations are two journals over one folder.
    """

    def __init__(
        self,
        folder: Path,
        kind: str = "trial",
        check: Callable[[TrialRecord], None] = lambda _: None,
    ) -> None:
        """Name it.

        Args:
            folder: the study's.
            kind: of its trials: `trial` or `confirm`.
            check: raises an `InputError` for a record that holds together as JSON alone.
        """
        self.folder = folder
        self.kind = kind
        self.check = check
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

    def start(self, number: int, spec: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Note that a trial begins."""
        # Each by itself: `parents` would make the one between as the umask says.
        files.make_folder(self._trials)
        files.make_folder(self.trial_folder(number))
        content = files.json_bytes({"spec": spec, "facts": facts})
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
        values = {name: getattr(outcome, name) for name in Outcome.__slots__}
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
        record = TrialRecord(number=number, spec=spec, facts=facts, curve=curve, outcome=outcome)
        try:
            self.check(record)
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
    try:
        outcome = Outcome(**files.read_json(path))
    except TypeError as error:
        raise files.damaged(path, error) from error
    if outcome.state not in ("COMPLETE", "PRUNED", "FAIL"):
        raise files.damaged(path, f"no trial ends as {outcome.state!r}")
    if not isinstance(outcome.reason, str) or type(outcome.ended_ms) is not int:
        raise files.damaged(path, "its reason is no text, or its time no whole number")
    return outcome
