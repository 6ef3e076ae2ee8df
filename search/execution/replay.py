"""Replay: train a trial again from its stored spec and compare it with its record."""

from __future__ import annotations

import time
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsearch.errors import InputError, MMSearchError
from mmsearch.model.training import DivergedError
from mmsearch.search.execution.coordinator import MAX_WORKER_DEATHS, POLL_S
from mmsearch.search.execution.executor import CallLostError, make_executor
from mmsearch.search.execution.extend_job import parent_weights
from mmsearch.search.execution.worker import run_segments
from mmsearch.search.results.selection import choose, extensions, find_extension, find_trial
from mmsearch.search.study import provenance
from mmsearch.search.study.workspace import options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mmsearch.search.execution.executor import SegmentExecutor
    from mmsearch.search.execution.worker import SegmentResult
    from mmsearch.search.study.session import Session
    from mmsearch.tracking.journal.records import TrialRecord

TOLERANCE_NATS = 1e-4
"""Largest accepted difference of a dev loss if versions or the processor differ.

At usual settings rounding changes a loss by 1e-7, and another seed by 3e-3. At a learning rate near
the edge of divergence rounding errors grow, and no tolerance separates them from a real difference
(docs/log.md, 2026-11-24).
"""
MATTERS = ("torch", "numpy", "mmsearch", "processor")
"""Versions that the bits of a result depend on, besides its words and its spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A segment of the record compared with the same segment of the replay."""

    step: int
    """Steps at its end."""
    then: float
    """Dev loss in the record, in nats per character."""
    now: float
    """Dev loss in the replay, in nats per character."""
    is_equal: bool
    """Whether step, curve, losses and weights are equal bit for bit."""

    @property
    def is_near(self) -> bool:
        """Whether the dev losses agree within the tolerance."""
        return abs(self.now - self.then) <= TOLERANCE_NATS


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The result of a replay."""

    record: TrialRecord
    changed: Mapping[str, tuple[str, str]]
    """Versions of `MATTERS` that differ, as (then, now); without any, bits must be equal."""
    segments: tuple[Segment, ...]
    """The segments that were trained again."""
    end: str
    """Why the replay diverged; empty if it did not."""

    @property
    def recorded_end(self) -> str:
        """Why the recorded trial diverged; empty if it did not."""
        return self.record.divergence

    @property
    def is_identical(self) -> bool:
        """Whether all bits are equal."""
        has_all = len(self.segments) == len(self.record.curve)
        return has_all and self.end == self.recorded_end and all(s.is_equal for s in self.segments)

    @property
    def is_reproduced(self) -> bool:
        """Whether all bits are equal, or all losses near if versions differ."""
        if not self.changed:
            return self.is_identical
        has_all = len(self.segments) == len(self.record.curve)
        is_alike = bool(self.end) == bool(self.recorded_end)
        return has_all and is_alike and all(segment.is_near for segment in self.segments)

    @property
    def max_gap_nats(self) -> float:
        """Largest difference of a dev loss, in nats per character."""
        return max((abs(s.now - s.then) for s in self.segments), default=0.0)

    @property
    def parting_step(self) -> int | None:
        """End of the first segment that was not reproduced; None if all were."""
        for segment in self.segments:
            if not (segment.is_near if self.changed else segment.is_equal):
                return segment.step
        return None


def replay(
    session: Session,
    number: int | None,
    extension: int | None,
    workers: int | str,
    say: Callable[[str], None],
) -> Replay:
    """Train a trial again as far as its record goes, in a worker process.

    Args:
        session: the study.
        number: the trial's number; None for the chosen model.
        extension: number of an extension to replay instead; None without.
        workers: number of processes on this machine, or a Dask cluster.
        say: called with each line that the user should read.

    Raises:
        InputError: there is no such trial, it has no segment yet, or there is no such cluster.
        RefusedError: no trial is complete, so none is chosen.
        JournalError: a file is damaged.
        MMSearchError: the worker process died.
    """
    journal = session.journal
    weights: bytes | None = None
    if extension is not None:
        record = find_extension(journal, extension)
        weights = parent_weights(journal, record.facts["parent_trial"])
        journal = extensions(journal)
    elif number is None:
        choice = choose(journal)
        journal, record = choice.journal, choice.record
    else:
        record = find_trial(journal, number)
    if not record.curve and not record.divergence:
        raise InputError(
            f"{record.name} has no finished segment to compare with; see: mmsearch trials"
            f"{options_of(session.journal)}"
        )
    if record.curve:
        journal.read_weights(record)  # raises if the file does not match the record
    then = record.facts.get("versions") or session.file.versions
    now = provenance.versions()
    with make_executor(workers, session.words, say) as pool:
        pool.start()
        results, end = _train(pool, record, weights)
    return Replay(
        record=record,
        changed={
            name: (str(then.get(name, "unknown")), now[name])
            for name in MATTERS
            if then.get(name) != now[name]
        },
        segments=tuple(
            Segment(
                step=record.spec.segment_end(place),
                then=line.dev_loss,
                now=result.dev_loss,
                is_equal=(line.segment, line.step) == (place, record.spec.segment_end(place))
                and tuple(line.train) == result.train
                and line.dev_loss == result.dev_loss
                and (line.train_loss in {None, result.train_loss})
                and line.weights_sha256 == result.weights_sha256,
            )
            for place, (line, result) in enumerate(zip(record.curve, results, strict=False), 1)
        ),
        end=end,
    )


def _train(
    pool: SegmentExecutor, record: TrialRecord, weights: bytes | None
) -> tuple[list[SegmentResult], str]:
    """Train the segments of a record again, from weights or, with None, from its own first ones.

    Returns:
        The segments and, if it diverged, why.
    """
    n_segments = len(record.curve) + bool(record.divergence)
    results: list[SegmentResult] = []
    n_deaths = 0
    while len(results) < n_segments:
        losses = tuple(result.dev_loss for result in results)
        pool.n_slots()  # raises if there never will be a worker
        try:
            result = pool.submit(run_segments, record.spec, losses, weights, 1).result()
        except DivergedError as error:
            return results, str(error)
        except CallLostError:
            time.sleep(POLL_S)
            continue
        except BrokenExecutor as error:
            n_deaths += 1
            if n_deaths <= MAX_WORKER_DEATHS:
                continue
            raise MMSearchError(
                f"the worker process died in segment {len(results) + 1}; is there enough memory?"
            ) from error
        n_deaths = 0
        results += result.segments
        weights = result.weights
    return results, ""
