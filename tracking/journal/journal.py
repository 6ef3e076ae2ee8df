"""The folder of one study: the durable, local record that every view is filled from.

    study.json                the settings of the study
    confirm.json              the plan of the latest confirmation
    baselines.json            dev losses of models that are counted, not trained
    trials/0007/spec.json     spec and facts of a trial
                curve.jsonl   one line per segment, in order
                weights.safetensors   after the last segment, or the one before
                samples.txt   words sampled from the final weights
                outcome.json  how the trial ended; written once, before any view shows it
                error.txt     the traceback of a trial that failed
                excluded.json     why somebody excluded the trial from the choice of a model
    confirm/0000/             the same for each confirmation of a trial from a fresh seed
    extend/0000/              the same for each training that goes on from a trial's weights

Files are replaced atomically, or lines appended to them, and flushed to the disk before a call
returns, except for the weights of a trial that has not ended. A process killed at any moment leaves
each file whole, except for a last line without its end, which readers ignore.
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from mmsearch.errors import InputError
from mmsearch.model.spec import TrialSpec
from mmsearch.tracking.journal import files
from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.records import (
    Outcome,
    SegmentRecord,
    TrialRecord,
    TrialState,
    check_record,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


_LINES = msgspec.json.Decoder(SegmentRecord)
_FOLDERS = {"trial": "trials", "confirm": "confirm", "extend": "extend"}
COUNT_AGAIN = "move it away; the next search or confirmation computes it again"
"""What the user can do about damaged baselines."""


class Journal:
    """Reads and writes the folder of one study; one process writes, any number may read.

    The trials of a study, their confirmations and their extensions are three journals over one
    folder. Every method raises a `JournalError` for a file that is damaged, or cannot be read or
    written.
    """

    def __init__(self, folder: Path, kind: str = "trial") -> None:
        """Open the journal; touches no file.

        Args:
            folder: the study's folder.
            kind: `trial` for the study's trials, `confirm` for their confirmations, `extend` for
                trainings that go on from their weights.
        """
        self.folder = folder
        self.kind = kind
        self._trials = folder / _FOLDERS[kind]

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.folder.name

    @property
    def baselines_path(self) -> Path:
        """File of the baselines."""
        return self.folder / "baselines.json"

    def create(self) -> None:
        """Make the study's folder, private to its owner."""
        files.make_folder(self.folder)

    def read_study(self) -> dict[str, Any] | None:
        """Read the settings of the study; None before it has begun."""
        return files.read_json_if_there(self.folder / "study.json")

    def write_study(self, facts: Mapping[str, Any]) -> None:
        """Write the settings of the study."""
        files.replace(self.folder / "study.json", files.json_bytes(facts))

    def delete_study(self) -> None:
        """Delete the settings of a study in which nothing has been trained."""
        (self.folder / "study.json").unlink(missing_ok=True)

    def read_plan(self, next_step: str = files.NEXT_STEP) -> dict[str, Any] | None:
        """Read the plan of the latest confirmation; None where there is none.

        Args:
            next_step: what the user can do where it is damaged.
        """
        return files.read_json_if_there(self.folder / "confirm.json", next_step)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write the plan of a confirmation."""
        files.replace(self.folder / "confirm.json", files.json_bytes(plan))

    def read_baselines(self) -> Baselines | None:
        """Read the baselines; None where they have not been computed."""
        path = self.baselines_path
        if (values := files.read_json_if_there(path, COUNT_AGAIN)) is None:
            return None
        try:
            return Baselines.from_json(values)
        except ValueError as error:
            raise files.damaged(path, error, COUNT_AGAIN) from error

    def write_baselines(self, baselines: Baselines) -> None:
        """Write the baselines."""
        files.replace(self.baselines_path, files.json_bytes(baselines.to_json()))

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self._trials / f"{number:04d}"

    def weights_path(self, number: int) -> Path:
        """Return the weights file of a trial."""
        return self.trial_folder(number) / "weights.safetensors"

    def numbers(self) -> list[int]:
        """Return the numbers of the trials that have begun, in order."""
        return [number for number in self._listed() if self.has_begun(number)]

    def _listed(self) -> list[int]:
        """Return the numbers of the folders of trials, in order."""
        return sorted(int(name) for name in files.listed(self._trials) if name.isdecimal())

    def has_begun(self, number: int) -> bool:
        """Return whether a trial has begun."""
        return files.exists(self.trial_folder(number) / "spec.json")

    def has_ended(self, number: int) -> bool:
        """Return whether a trial has ended."""
        return files.exists(self.trial_folder(number) / "outcome.json")

    def start(self, number: int, spec: TrialSpec, facts: Mapping[str, Any]) -> None:
        """Write that a trial begins, with its spec and its `TrialRecord.facts`."""
        # One by one: `parents` would make the folder between readable according to the umask.
        files.make_folder(self._trials)
        files.make_folder(self.trial_folder(number))
        content = files.json_bytes({"spec": spec.to_json(), "facts": facts})
        files.replace(self.trial_folder(number) / "spec.json", content)

    def append(
        self,
        number: int,
        records: Sequence[SegmentRecord],
        weights: bytes,
        samples: Sequence[str] = (),
    ) -> None:
        """Append segments to a trial, then write the weights after the last of them.

        Args:
            number: the trial's number.
            records: the segments, in order.
            weights: state after them, as safetensors.
            samples: words sampled from a trial that has ended.
        """
        lines = []
        for record in records:
            values = {**msgspec.structs.asdict(record), "dev_parts": dict(record.dev_parts)}
            lines.append(json.dumps(values, allow_nan=False).encode() + b"\n")
        files.append(self.trial_folder(number) / "curve.jsonl", b"".join(lines))
        if samples:
            content = "".join(f"{word}\n" for word in samples).encode()
            files.replace(self.trial_folder(number) / "samples.txt", content)
        # After a loss of power the trial may start again, with the same result.
        files.replace(self.weights_path(number), weights, is_flushed=False)

    def finish(self, number: int, outcome: Outcome, *, error: str = "") -> None:
        """Write how a trial ended, with the traceback of a failure."""
        folder = self.trial_folder(number)
        if files.exists(self.weights_path(number)):
            files.flush(self.weights_path(number))
        if error:
            files.replace(folder / "error.txt", error.encode("utf-8", "backslashreplace"))
        values = msgspec.structs.asdict(outcome)
        if outcome.failure is None:
            del values["failure"]
        # The message of an error may hold lone surrogates, which no database accepts.
        values["reason"] = outcome.reason.encode("utf-8", "backslashreplace").decode()
        files.replace(folder / "outcome.json", files.json_bytes(values))

    def exclude(self, number: int, reason: str) -> None:
        """Exclude a trial from the choice of a model; an empty reason takes that back."""
        values = {"reason": reason, "excluded_ms": time.time_ns() // 1_000_000}
        path = self.trial_folder(number) / "excluded.json"
        files.replace(path, files.json_bytes(values))

    def read(self, number: int) -> TrialRecord:
        """Read one trial."""
        if (record := self._read(number)) is None:
            raise self._missing(number)
        return record

    def _missing(self, number: int) -> files.JournalError:
        path = self.trial_folder(number) / "spec.json"
        return files.JournalError(f"{str(path)!r} cannot be read: it is missing")

    def _read(self, number: int) -> TrialRecord | None:
        """Read one trial; None if it has not begun."""
        # A string, since to join paths takes longer than to read what they lead to.
        folder = str(self.trial_folder(number))
        path = f"{folder}/spec.json"
        if (start := files.read_json_if_there(path)) is None:
            return None
        spec, facts = start.get("spec"), start.get("facts")
        if not (isinstance(spec, dict) and isinstance(facts, dict)):
            raise files.damaged(path, "spec or facts is missing")
        # The outcome before the curve: a trial that has one has its whole curve.
        outcome = _read_outcome(f"{folder}/outcome.json")
        curve = _read_curve(f"{folder}/curve.jsonl")
        try:
            spec = TrialSpec.from_json(spec)
        except InputError as error:
            raise files.damaged(path, error) from error
        record = TrialRecord(
            number=number,
            spec=spec,
            facts=facts,
            curve=curve,
            outcome=outcome,
            excluded=_read_exclusion(f"{folder}/excluded.json"),
        )
        try:
            check_record(record)
        except InputError as error:
            raise files.damaged(folder, error) from error
        return record

    def records(self) -> list[TrialRecord]:
        """Read all trials that have begun, in order."""
        # Nothing of what is read is garbage, and looking for it takes a third of the time.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            records = []
            for number in self._listed():
                if record := self._read(number):
                    records.append(record)
                elif not files.exists(self.trial_folder(number)):
                    raise self._missing(number)  # the study is being deleted
            return records
        finally:
            if was_enabled:
                gc.enable()

    def read_weights(self, record: TrialRecord) -> bytes:
        """Read the latest weights of a trial, and check them against its curve."""
        path = self.weights_path(record.number)
        content = files.read_bytes(path)
        # While the trial runs, the curve is ahead of the weights for a moment.
        latest = record.curve[-1:] if record.outcome else record.curve
        if _sha256(content) not in {segment.weights_sha256 for segment in latest}:
            raise files.damaged(path, "its SHA-256 is not the recorded one")
        return content

    def read_samples(self, number: int) -> list[str]:
        """Read the words sampled from the final weights of a trial; empty where there are none."""
        content = files.read_if_there(self.trial_folder(number) / "samples.txt") or b""
        return content.decode("utf-8", "backslashreplace").split("\n")[:-1]

    def resume(self, number: int) -> tuple[Sequence[SegmentRecord], bytes | None]:
        """Cut the curve of a trial back to the last segment whose weights are there.

        Returns:
            That curve and its weights; an empty curve and None where the trial must start again,
            which gives the same result.
        """
        curve_path = self.trial_folder(number) / "curve.jsonl"
        curve = list(_read_curve(curve_path))
        weights = files.read_if_there(self.weights_path(number)) or b""
        sha256 = _sha256(weights)
        while curve and curve[-1].weights_sha256 != sha256:
            curve.pop()
        # Without an incomplete last line, which the next one would join.
        lines = (files.read_if_there(curve_path) or b"").split(b"\n")
        files.replace(curve_path, b"".join(line + b"\n" for line in lines[: len(curve)]))
        return curve, weights if curve else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_curve(path: Path | str) -> tuple[SegmentRecord, ...]:
    """Read the lines of a curve; ignores a last line without its end."""
    records = []
    for number, line in enumerate((files.read_if_there(path) or b"").split(b"\n")[:-1], start=1):
        try:
            records.append(_LINES.decode(line))
        except ValueError as error:  # msgspec's errors are ValueErrors, too
            raise files.damaged(path, f"line {number}, {error}") from error
    return tuple(records)


def _read_exclusion(path: Path | str) -> str:
    """Return why a trial is excluded; empty if it is not."""
    if (values := files.read_json_if_there(path)) is None:
        return ""
    reason = values.get("reason")
    if not isinstance(reason, str):
        raise files.damaged(path, "reason must be a string")
    return reason


def _read_outcome(path: Path | str) -> Outcome | None:
    if (content := files.read_if_there(path)) is None:
        return None
    try:
        outcome = msgspec.json.decode(content, type=Outcome)
    except ValueError as error:  # msgspec's errors are ValueErrors, too
        raise files.damaged(path, error) from error
    if outcome.state == TrialState.RUNNING:
        raise files.damaged(path, "a trial that has ended cannot be RUNNING")
    if outcome.state == TrialState.FAIL and outcome.failure is None:
        # Versions up to 0.2 wrote the reason alone.
        is_diverged = re.search(r" at step \d+ of \d+$", outcome.reason)
        outcome = msgspec.structs.replace(outcome, failure="diverged" if is_diverged else "error")
    return outcome
