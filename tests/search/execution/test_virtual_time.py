"""One seed, one study: whatever the number of workers, their speed, and when a search is killed."""

import contextlib
import dataclasses
import hashlib
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import Phase, given
from hypothesis import settings as how_often
from hypothesis import strategies as st

from mmsearch.errors import MMSearchError
from mmsearch.model.cost import COSTS
from mmsearch.model.curve import CurvePoint
from mmsearch.model.spec import TrialSpec
from mmsearch.search.execution.coordinator import Coordinator, Limits, SearchResult
from mmsearch.search.execution.executor import WorkerDiedError
from mmsearch.search.execution.virtual_time import VirtualClock
from mmsearch.search.execution.worker import CallResult, SegmentResult
from mmsearch.search.optimizer.optuna_study import OptunaProposer, not_begun
from mmsearch.search.optimizer.pruners import decides
from mmsearch.search.study.settings import Pruner, Settings
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import TrialRecord

VOCAB_SIZE = 27
ENQUEUED = [{"hidden_width": 100}, {"block_size": 4}]


class _Killed(BaseException):
    """The process ends at this point."""


class _Mortal(Journal):
    """A journal whose process is killed before or after one of its writes."""

    n_left = -1

    def _write(self, write: Callable[..., Any], *args: Any, **options: Any) -> None:
        if self.n_left == 0:
            raise _Killed
        if self.n_left == 1:
            write(*args, **options)
            raise _Killed
        self.n_left -= 2
        write(*args, **options)

    def start(self, *args: Any, **options: Any) -> None:
        """Start a trial, or die."""
        self._write(super().start, *args, **options)

    def append(self, *args: Any, **options: Any) -> None:
        """Append a segment, or die."""
        self._write(super().append, *args, **options)

    def finish(self, *args: Any, **options: Any) -> None:
        """Finish a trial, or die."""
        self._write(super().finish, *args, **options)


@dataclasses.dataclass
class _Stopper:
    """Stops a search after a number of updates."""

    coordinator: Coordinator
    n_left: int

    def show(self, record: TrialRecord) -> None:
        """Count an update."""
        del record
        if self.n_left == 0:
            self.coordinator.stop()
        self.n_left -= 1


def train_one(spec: TrialSpec, n_before: int, *, may_fail: bool = True) -> SegmentResult:
    """Answer a segment with a loss of its spec and its number."""
    chance = random.Random(spec.seed + n_before)  # noqa: S311 (no secret)
    if chance.random() < 0.05 and may_fail:
        raise MMSearchError("it failed")
    loss = 2 + 10 / spec.hidden_width + 1 / (n_before + 1) + chance.gauss(0, 0.2)
    step = spec.segment_end(n_before + 1)
    return SegmentResult(
        train=(CurvePoint(step, loss, spec.learning_rate),),
        dev_loss=loss,
        dev_parts={},
        train_loss=loss,
        weights_sha256=hashlib.sha256(f"{n_before + 1}".encode()).hexdigest(),
        wall_s=0.0,
    )


def train(
    spec: TrialSpec, losses: tuple[float, ...], weights: bytes | None, n_segments: int
) -> CallResult:
    """Answer some of the segments that may be trained, after a while of no meaning."""
    time.sleep(random.choice((0, 0, 0.0005, 0.002)))  # noqa: S311 (the point: not to be repeated)
    assert (weights or b"0") == f"{len(losses)}".encode()
    n_segments = random.randint(1, n_segments)  # noqa: S311 (not to be repeated, either)
    segments = [train_one(spec, len(losses))]
    with contextlib.suppress(MMSearchError):
        segments.extend(train_one(spec, len(losses) + n) for n in range(1, n_segments))
    return CallResult(tuple(segments), f"{len(losses) + len(segments)}".encode(), ())


def search(  # noqa: PLR0913 (what is searched, and when it is stopped)
    folder: Path,
    settings: Settings,
    n_workers: int,
    *,
    n_trials: int = 40,
    n_writes: int = -1,
    n_shown: int = -1,
    run_segments: Callable[..., CallResult] = train,
) -> SearchResult | None:
    """Begin or resume a search.

    Args:
        folder: the study's folder.
        settings: the study's settings.
        n_workers: number of threads.
        n_trials: number of finished trials.
        n_writes: halves of writes after which the process is killed; -1 for never.
        n_shown: updates of trials after which the search is stopped, as by Ctrl-C; -1 for never.
        run_segments: what the workers run.

    Returns:
        The result; None if the search was killed.
    """
    journal = _Mortal(folder)
    journal.n_left = n_writes if n_writes >= 0 else 10**9
    journal.create()
    earlier = [
        record
        if record.outcome
        else dataclasses.replace(record, curve=tuple(journal.resume(record.number)[0]))
        for record in journal.records()
    ]
    clock = VirtualClock(COSTS, VOCAB_SIZE, lambda spec, segment: decides(settings, spec, segment))
    queue = not_begun(ENQUEUED, earlier)
    with ThreadPoolExecutor(n_workers) as executor:
        coordinator = Coordinator(
            proposer=OptunaProposer("names", settings, clock.decided(earlier), queue),
            earlier=earlier,
            settings=settings,
            journal=journal,
            executor=executor,
            run_segments=run_segments,
            clock=clock,
            n_slots=lambda: n_workers,
            n_lanes=settings.lanes,
        )
        coordinator.observers = (_Stopper(coordinator, n_shown),)
        try:
            return coordinator.run(Limits(n_trials=n_trials))
        except _Killed:
            return None


def decisions(folder: Path) -> list[Any]:
    """Return all that a study decided and computed, without the time of day."""
    found = []
    for record in Journal(folder).records():
        facts = {name: v for name, v in record.facts.items() if name != "started_ms"}
        curve = [msgspec.structs.replace(line, ended_ms=0) for line in record.curve]
        outcome = record.outcome and msgspec.structs.replace(record.outcome, ended_ms=0)
        found.append((record.number, record.spec, facts, curve, outcome))
    return found


def settings_with(pruner: Pruner, lanes: int, sampler: Any = "random") -> Settings:
    """Return settings of short trials, whose first segment passes two rungs of halving."""
    # Without patience a failure comes long before the next decision of its trial.
    patience = 0 if pruner == "none" else 3
    return Settings(
        steps=160,
        segments=5,
        pruner=pruner,
        lanes=lanes,
        sampler=sampler,
        evaluations="even",
        patience=patience,
    )


@pytest.mark.parametrize("pruner", get_args(Pruner))
def test_any_number_of_workers_makes_the_same_decisions(pruner: Pruner, tmp_path: Path) -> None:
    """40 trials of TPE with 1, 2, 3 and 8 workers whose speed is left to chance."""
    settings = settings_with(pruner, lanes=4, sampler="tpe")
    for n_workers in (1, 2, 3, 8):
        search(tmp_path / f"{n_workers}", settings, n_workers)
    first = decisions(tmp_path / "1")
    states = [outcome.state for *_, outcome in first]
    assert sum(state in {"COMPLETE", "PRUNED"} for state in states) == 40
    assert ("PRUNED" in states) == (pruner != "none")
    for n_workers in (2, 3, 8):
        assert decisions(tmp_path / f"{n_workers}") == first


# Without shrinking: an example takes seconds.
@pytest.mark.fault
@how_often(max_examples=15, phases=(Phase.generate,))
@given(data=st.data())
def test_killed_search_ends_as_if_undisturbed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed before and after any write, stopped at any update, and resumed by other workers."""
    folder = tmp_path_factory.mktemp("study")
    pruner = data.draw(st.sampled_from(get_args(Pruner)))
    settings = settings_with(pruner, lanes=data.draw(st.integers(1, 5)))
    search(folder / "undisturbed", settings, 2, n_trials=16)
    for _ in range(data.draw(st.integers(1, 8))):
        search(
            folder / "killed",
            settings,
            data.draw(st.integers(1, 4)),
            n_trials=16,
            n_writes=data.draw(st.integers(-1, 100)),
            n_shown=data.draw(st.integers(-1, 60)),
        )
    result = search(folder / "killed", settings, 3, n_trials=16)

    assert result is not None
    assert result.ended_by == "trials"
    assert decisions(folder / "killed") == decisions(folder / "undisturbed")


@pytest.mark.parametrize(
    ("pruner", "expected"),
    [("none", {10}), ("median", {1}), ("halving", {1, 2, 4})],
)
def test_calls_train_what_no_decision_comes_between(
    tmp_path: Path, pruner: Pruner, expected: set[int]
) -> None:
    """Nothing is trained that the pruner may make needless; the worker keeps the time."""
    calls: set[int] = set()

    def run(
        spec: TrialSpec, losses: tuple[float, ...], _weights: bytes | None, n_segments: int
    ) -> CallResult:
        calls.add(n_segments)
        lines = [train_one(spec, len(losses) + n, may_fail=False) for n in range(n_segments)]
        return CallResult(tuple(lines), b"", ())

    settings = Settings(
        steps=160, segments=10, pruner=pruner, evaluations="even", patience=0, lanes=1
    )
    search(tmp_path, settings, 1, n_trials=6, run_segments=run)
    assert calls == expected


def test_segment_that_kills_its_worker_is_found(tmp_path: Path) -> None:
    """After a death each call trains one segment, so that four more deaths are in one."""
    calls: list[int] = []

    def run(
        spec: TrialSpec, losses: tuple[float, ...], _weights: bytes | None, n_segments: int
    ) -> CallResult:
        calls.append(n_segments)
        if len(losses) + n_segments > 8:
            raise WorkerDiedError
        return CallResult((train_one(spec, len(losses), may_fail=False),), b"", ())

    settings = settings_with("none", lanes=1)
    settings = dataclasses.replace(settings, segments=10)
    search(tmp_path, settings, 1, n_trials=1, n_shown=9, run_segments=run)
    (record,) = Journal(tmp_path).records()
    assert calls == [10, *[1] * 8, *[1] * 4]
    assert record.outcome is not None
    assert (len(record.curve), record.outcome.failure) == (8, "worker_died")
