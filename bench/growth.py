"""What the coordinator costs a segment, as a study grows to thousands of trials.

    python bench/growth.py --sizes 50 500 --repeats 1

The coordinator, its journal, the Optuna study in memory and the display are those of `mmsearch
run`; an executor in this process answers each segment at once, with weights of the real size. So
segments a second are what the coordinator can sustain for any number of workers.

By chance of its seed a trial is complete (`COMPLETE` of them) or falls behind at an early segment,
where the pruner ends it, so that Optuna is asked equally often at each size. The same coordinator
first runs until so many trials have ended, without waiting for the disk. `--workers` more are begun
then, and after `WARM_UP` segments a worker, when they are of all ages, a window of `--segments` is
measured. The sizes take turns, each on a fresh copy. "resume" is the time to read the journal and
build the study from it.

`cluster.py` uses the same trials and the same coordinator.
"""

import argparse
import contextlib
import hashlib
import math
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
from report import report, spreads
from rich.console import Console
from safetensors.numpy import save

from mmsearch.model.cost import COSTS, step_ns
from mmsearch.model.curve import CurvePoint
from mmsearch.model.spec import TrialSpec
from mmsearch.search.display.live import LiveDisplay
from mmsearch.search.execution.coordinator import Coordinator, Limits
from mmsearch.search.execution.runner import opened
from mmsearch.search.execution.search_job import Search
from mmsearch.search.execution.virtual_time import VirtualClock
from mmsearch.search.execution.worker import CALL_S, CallResult, SegmentResult
from mmsearch.search.study.session import Request, Session
from mmsearch.tracking.journal.records import TrialRecord

T = TypeVar("T")

WARM_UP = 10
"""Segments a worker before the window."""
N_TRIALS = 10**9
"""Trials of the study, which are never reached."""
N_POINTS = 10
"""Points of a segment's curve, as in training."""
COMPLETE, PRUNED_NOW = 0.35, 0.5
"""Shares of trials that are complete, and of the others that fall behind at each segment."""


def quality(spec: TrialSpec) -> float:
    """Return the expected dev loss of a trial."""
    rate = math.log10(spec.learning_rate) + 0.7
    width = math.log2(512 / spec.hidden_width) + math.log2(48 / spec.embedding_dim)
    return 2.0 + 0.25 * rate**2 + 0.03 * width + 0.01 * abs(spec.block_size - 6)


def last_segment(spec: TrialSpec) -> int:
    """Return the segment at which a trial falls behind, or its last segment."""
    chance = random.Random(spec.seed)  # noqa: S311 (no secret)
    segment = spec.n_segments
    if chance.random() > COMPLETE:
        segment = 1
        while chance.random() > PRUNED_NOW:
            segment += 1
    return min(segment, spec.n_segments)


def dev_loss(spec: TrialSpec, segment: int) -> float:
    """Return the dev loss after a segment, in nats."""
    if segment == spec.n_segments:
        return quality(spec) + random.Random(spec.seed + 1).gauss(0, 0.02)  # noqa: S311 (no secret)
    behind = 0.0 if segment < last_segment(spec) else 0.5 + quality(spec)
    return 2.1 + 0.5 * math.pow(1 - segment / spec.n_segments, 1.5) + behind


def answer(
    vocab_size: int,
    spec: TrialSpec,
    dev_losses: tuple[float, ...],
    _: bytes | None,
    n_segments: int,
) -> CallResult:
    """Answer segments as a worker would, at once."""
    embedding = np.random.default_rng(spec.seed).standard_normal((vocab_size, spec.embedding_dim))
    rest = np.zeros(spec.n_parameters(vocab_size) - embedding.size, np.float32)
    results = []
    for segment in range(len(dev_losses) + 1, len(dev_losses) + n_segments + 1):
        loss = dev_loss(spec, segment)
        start, end = spec.segment_end(segment - 1), spec.segment_end(segment)
        steps = [start + (end - start) * n // N_POINTS for n in range(1, N_POINTS + 1)]
        content = save({"C": embedding.astype(np.float32), "rest": rest})
        result = SegmentResult(
            train=tuple(CurvePoint(step, loss + 0.01, spec.learning_rate) for step in steps),
            dev_loss=loss,
            dev_parts={},
            train_loss=loss - 0.1,
            weights_sha256=hashlib.sha256(content).hexdigest(),
            wall_s=0.5,
        )
        results.append(result)
    samples = ("anna",) * 20 if segment == spec.n_segments else ()
    return CallResult(tuple(results), content, samples)


def sleep(
    scale: float,
    vocab_size: int,
    spec: TrialSpec,
    dev_losses: tuple[float, ...],
    _: bytes | None,
    n_segments: int,
) -> CallResult:
    """Answer segments after their cost by `model/cost.py`, in seconds times `scale`."""
    begun, n_done = time.perf_counter(), len(dev_losses)
    step_s = scale * step_ns(COSTS, spec, vocab_size) / 1e9
    ends = [spec.segment_end(n_done + n) for n in range(n_segments + 1)]
    walls_s = [step_s * (end - start) for start, end in pairwise(ends)]
    n_segments = max(1, sum(end_s <= CALL_S for end_s in accumulate(walls_s)))
    result = answer(vocab_size, spec, dev_losses, None, n_segments)
    time.sleep(max(0.0, begun + sum(walls_s[:n_segments]) - time.perf_counter()))
    timed = zip(result.segments, walls_s, strict=False)
    return replace(result, segments=tuple(replace(each, wall_s=s) for each, s in timed))


def open_session(root: Path, lanes: int) -> Session:
    """Open the study in a workspace."""
    config = root.parent / "settings.toml"
    config.write_text(f'[training]\nrecipe = "article"\n[search]\nlanes = {lanes}\n', "utf-8")
    return Session.open(
        Request(workspace=root, n_trials=N_TRIALS, study="simulated", config=config, given={})
    )


@contextlib.contextmanager
def coordinate(
    job: Search,
    executor: Executor,
    run_segments: Callable[[TrialSpec, tuple[float, ...], bytes | None, int], CallResult],
    n_slots: int,
    n_lanes: int | None,
) -> Iterator[Coordinator]:
    """Make the coordinator of `mmsearch run`, with a display that nobody sees."""
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere, opened(job) as earlier:
        session = job.session
        clock = VirtualClock(session.file.costs, session.corpus.vocabulary.size, job.decides)
        yield Coordinator(
            proposer=job.propose(clock.decided(earlier), ()),
            earlier=earlier,
            settings=session.file.settings,
            journal=session.journal,
            executor=executor,
            run_segments=run_segments,
            clock=clock,
            n_slots=lambda: n_slots,
            n_lanes=n_lanes,
            observers=(LiveDisplay(Console(file=nowhere), N_TRIALS, earlier),),
        )


@dataclass(slots=True)
class Window:
    """An observer of a coordinator, which stops it after a window of segments."""

    coordinator: Coordinator
    n_before: int
    n_segments: int
    mark: Callable[[], Any]
    """Called where the window begins and where it ends."""
    marks: list[Any] = field(default_factory=list)
    """What `mark` returned."""
    n_inside: int = 0
    """Segments of the window; the last call may train more than were asked for."""
    wall_s: float = 0.0
    """Seconds that workers spent on them."""
    _n_ended: int = 0
    _seen: dict[int, int] = field(default_factory=dict)
    """Segments by trial, those of earlier processes included."""

    def show(self, record: TrialRecord) -> None:
        """Count segments."""
        n_seen = self._seen.get(record.number, len(record.curve))
        self._seen[record.number] = len(record.curve)
        ended = record.curve[n_seen:]
        self._n_ended += len(ended)
        if len(self.marks) == 1:
            self.n_inside += len(ended)
            self.wall_s += sum(line.wall_s for line in ended)
            if self.n_inside >= self.n_segments:
                self.marks.append(self.mark())
                self.coordinator.stop()
        elif not self.marks and self._n_ended >= self.n_before:
            self.marks.append(self.mark())

    def run(self) -> None:
        """Run the coordinator until the window ends."""
        self.coordinator.observers += (self,)
        self.coordinator.run(Limits(n_trials=N_TRIALS))


@dataclass(slots=True)
class Instant(Executor):
    """Runs each call at once."""

    own_s: float = 0.0
    """Seconds spent in this executor."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` now."""
        begun = time.perf_counter()
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        self.own_s += time.perf_counter() - begun
        return future


@contextlib.contextmanager
def coordinate_at_once(root: Path, executor: Executor, n_workers: int) -> Iterator[Coordinator]:
    """Make a coordinator of `n_workers`, whose segments are answered at once."""
    job = Search(open_session(root, n_workers))
    answers = partial(answer, job.session.corpus.vocabulary.size)
    with coordinate(job, executor, answers, n_workers, n_workers) as coordinator:
        yield coordinator


def once(root: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one window of a filled study."""
    executor, begun = Instant(), time.perf_counter()
    with coordinate_at_once(root, executor, arguments.workers) as coordinator:
        resume_s = time.perf_counter() - begun
        window = Window(
            coordinator,
            arguments.workers * WARM_UP,
            arguments.segments,
            lambda: time.perf_counter() - executor.own_s,
        )
        window.run()
    whole_ms = (window.marks[1] - window.marks[0]) / window.n_inside * 1e3
    return {"ms a segment": whole_ms, "segments/s": 1e3 / whole_ms, "resume, s": resume_s}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=64, help="trials that run at once")
    parser.add_argument("--segments", type=int, default=200, help="of a window")
    arguments = parser.parse_args()
    workers = arguments.workers
    found: dict[int, list[dict[str, float]]] = {n: [] for n in arguments.sizes}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "runs"
        for n_trials in arguments.sizes:
            # Filling in is not measured, and need not survive a crash.
            with mock.patch("os.fsync"), coordinate_at_once(root, Instant(), workers) as filling:
                filling.run(Limits(n_trials=n_trials))
            root.rename(Path(scratch) / f"filled-{n_trials}")
        for _ in range(arguments.repeats):
            for n_trials in arguments.sizes:
                shutil.copytree(Path(scratch) / f"filled-{n_trials}", root)
                found[n_trials].append(once(root, arguments))
                shutil.rmtree(root)
    sizes = {n: spreads(runs) for n, runs in found.items()}
    rows = [
        {"trials": f"{n:,}", **{name: f"{its['median']:.2f}" for name, its in figures.items()}}
        for n, figures in sizes.items()
    ]
    title = f"{arguments.workers} trials at once; medians of {arguments.repeats} turns"
    report("growth", title, rows, {"settings": vars(arguments), "sizes": sizes})


if __name__ == "__main__":
    main()
