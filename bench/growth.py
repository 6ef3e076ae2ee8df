"""What the coordinator costs a segment, as a study grows to thousands of trials.

    python bench/growth.py
    python bench/growth.py --sizes 50 500 --repeats 1
    python bench/growth.py --profile

The coordinator, its journal, the Optuna study in memory and the display are those of `mmsearch
run`; only the training is left out. An executor within this process answers each segment at once,
with weights of the real size. So the loop is as busy as it can be, and segments a second are what
it can sustain, whatever number of workers asks for them. With `--views` the threads that fill
Optuna's storage and MLflow work beside it and share the interpreter with it.

How long a trial lasts decides how often is asked, so that is the same at each size: by chance of
its seed a trial is complete (`COMPLETE` of them) or falls behind at an early segment, and the
pruner ends it there. What lasts has one curve, and scores that depend on the hyperparameters and
on chance. The recipe is the article's, with 20 segments a trial.

The journal of each study is filled first with as many ended trials as its size says. Their
proposals are better than chance, as a sampler's are. `--workers` trials more, of all ages, are
left running for the coordinator to carry on, and after `WARM_UP` segments a window of `--segments`
is measured. The sizes take turns; each turn starts from a fresh copy, in a process of its own.

"resume" is the time to read the journal and to build the study from it. Medians over turns;
`growth` is the last size against the first one, within a turn. `--profile` runs the window of each
size once more and prints the functions that take most, cumulative.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import cProfile
import hashlib
import math
import multiprocessing
import pstats
import random
import shutil
import statistics
import tempfile
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

import numpy as np
from report import report, spread
from rich.console import Console
from safetensors.numpy import save

from mmsearch.search.display.live import LiveDisplay
from mmsearch.search.execution.coordinator import Coordinator, Limits
from mmsearch.search.execution.runner import opened
from mmsearch.search.execution.search_job import Search
from mmsearch.search.execution.worker import SegmentResult
from mmsearch.search.optimizer.optuna_study import ENQUEUED, trial_seed
from mmsearch.search.results.publish import make_tracker
from mmsearch.search.study.session import Request, Session
from mmsearch.search.study.settings import Settings
from mmsearch.search.study.space import Range
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialState
from mmsearch.tracking.uploader import Uploader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mmsearch.model.spec import TrialSpec

T = TypeVar("T")

WARM_UP = 100
"""Segments after which the window begins, besides one of each trial carried on."""
N_POINTS = 10
"""Points of a segment's curve, as in training."""
COMPLETE, PRUNED_NOW = 0.35, 0.5
"""Shares of trials that last, and of the others that fall behind at each segment."""
GOALS = {50: 150.0, 500: 120.0, 5000: 100.0}
"""Segments a second to reach, by size."""
PARTS = {
    "ask": "proposer.ask",
    "report": "proposer.report",
    "should_prune": "proposer.should_prune",
    "tell": "proposer.tell",
    "journal start": "journal.start",
    "journal append": "journal.append",
    "journal finish": "journal.finish",
}
"""What is timed, by where it is called from the coordinator."""


@dataclass(slots=True)
class Clock:
    """Seconds and calls, by what was called."""

    seconds: dict[str, float] = field(default_factory=lambda: collections.defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: collections.defaultdict(int))
    is_on: bool = False

    def timed(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        """Wrap a call."""

        def wrapped(*args: Any, **kwargs: Any) -> T:
            begun = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                if self.is_on:
                    self.seconds[name] += time.perf_counter() - begun
                    self.calls[name] += 1

        return wrapped


def quality(spec: TrialSpec) -> float:
    """Return the dev loss that a trial would reach but for chance."""
    rate = math.log10(spec.learning_rate) + 0.7
    width = math.log2(512 / spec.hidden_width) + math.log2(48 / spec.embedding_dim)
    return 2.0 + 0.25 * rate**2 + 0.03 * width + 0.01 * abs(spec.block_size - 6)


def last_segment(spec: TrialSpec) -> int:
    """Return the segment at which a trial falls behind; its last one where it lasts."""
    chance = random.Random(spec.seed)  # noqa: S311 (no secret)
    segment = spec.n_segments
    if chance.random() > COMPLETE:
        segment = 1
        while chance.random() > PRUNED_NOW:
            segment += 1
    return min(segment, spec.n_segments)


def dev_loss(spec: TrialSpec, segment: int, *, lasts: bool = False) -> float:
    """Return the dev loss after a segment, in nats; `lasts` whatever chance says."""
    if segment == spec.n_segments:
        return quality(spec) + random.Random(spec.seed + 1).gauss(0, 0.02)  # noqa: S311 (no secret)
    behind = 0.0 if lasts or segment < last_segment(spec) else 0.5 + quality(spec)
    return 2.1 + 0.5 * math.pow(1 - segment / spec.n_segments, 1.5) + behind


def simulate(spec: TrialSpec, segment: int, vocab_size: int, *, lasts: bool) -> SegmentResult:
    """Answer a segment as a worker would."""
    loss = dev_loss(spec, segment, lasts=lasts)
    start, end = spec.segment_end(segment - 1), spec.segment_end(segment)
    steps = [start + (end - start) * n // N_POINTS for n in range(1, N_POINTS + 1)]
    embedding = np.random.default_rng(spec.seed).standard_normal((vocab_size, spec.embedding_dim))
    rest = np.zeros(spec.n_parameters(vocab_size) - embedding.size, np.float32)
    content = save({"C": embedding.astype(np.float32), "rest": rest})
    return SegmentResult(
        train=tuple((step, loss + 0.01, spec.learning_rate) for step in steps),
        dev_loss=loss,
        dev_parts={},
        train_loss=loss - 0.1,
        weights=content,
        weights_sha256=hashlib.sha256(content).hexdigest(),
        samples=("anna",) * 20 if segment == spec.n_segments else (),
        wall_s=0.5,
    )


@dataclass(slots=True)
class Instant(Executor):
    """Answers at once, and says when a window of segments begins and ends."""

    n_before: int
    """Segments before the window."""
    n_segments: int
    """Segments of the window."""
    on_begin: Callable[[], None]
    on_end: Callable[[], None]
    own_s: float = 0.0
    """Seconds of the window that were ours."""
    _n_calls: int = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` now."""
        if self._n_calls == self.n_before:
            self.own_s = 0.0
            self.on_begin()
        begun = time.perf_counter()
        if self._n_calls == self.n_before + self.n_segments:
            self.on_end()
        self._n_calls += 1
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        self.own_s += time.perf_counter() - begun
        return future


def draw(settings: Settings, number: int) -> TrialSpec:
    """Propose a trial: the best of eight by chance."""
    seed = trial_seed(settings.seed, number)
    chance = random.Random(seed)  # noqa: S311 (no secret)
    specs = []
    for _ in range(8):
        point: dict[str, float] = {}
        for name, dimension in settings.space.dimensions.items():
            assert isinstance(dimension, Range)  # noqa: S101 (the recipe's space has no choices)
            low, high = dimension.low, dimension.high
            value = (
                math.exp(chance.uniform(math.log(low), math.log(high)))
                if dimension.log
                else chance.uniform(low, high)
            )
            point[name] = round(value) if dimension.is_int else value
        specs.append(settings.trial_spec(point, seed))
    return min(specs, key=quality)


def fill(root: Path, arguments: argparse.Namespace, n_trials: int) -> None:
    """Write a journal of `n_trials` ended trials, and of `--workers` running ones of all ages."""
    session = open_session(root, arguments)
    session.workspace.create()
    settings, journal = session.file.settings, session.journal
    journal.create()
    journal.write_study(session.file.to_json())
    vocab_size, n_workers = session.corpus.vocabulary.size, arguments.workers
    ended_ms = 1_700_000_000_000
    # What is filled in is not measured, and need not survive anything.
    with mock.patch("os.fsync"):
        for number in range(n_trials + n_workers):
            spec, is_running = draw(settings, number), number >= n_trials
            n_done = last_segment(spec)
            if is_running:
                # Of all ages: else they would all end at once.
                n_done = (number - n_trials) * spec.n_segments // n_workers
            facts = {"started_ms": ended_ms, "n_parameters": 1, "versions": {}, ENQUEUED: None}
            journal.start(number, spec, facts)
            for segment in range(1, n_done + 1):
                result = simulate(spec, segment, vocab_size, lasts=is_running)
                ended_ms += 1
                line = SegmentRecord(
                    segment=segment,
                    step=spec.segment_end(segment),
                    train=result.train,
                    dev_loss=result.dev_loss,
                    train_loss=result.train_loss,
                    wall_s=result.wall_s,
                    ended_ms=ended_ms,
                    weights_sha256=result.weights_sha256,
                )
                journal.append(number, line, result.weights if is_running else b"")
            if not is_running:
                ended_ms += 1
                state = "COMPLETE" if n_done == spec.n_segments else "PRUNED"
                journal.finish(number, Outcome(state=TrialState(state), ended_ms=ended_ms))


def once(
    root: Path, arguments: argparse.Namespace, n_trials: int, *, is_profiled: bool
) -> dict[str, float]:
    """Measure one window of a filled study, or print a profile of it."""
    profile = cProfile.Profile() if is_profiled else None
    session = open_session(root, arguments)
    job, clock = Search(session), Clock()
    marks: list[float] = []

    def begin() -> None:
        clock.is_on = True
        marks.append(time.perf_counter())
        if profile is not None:
            profile.enable()

    def end() -> None:
        if profile is not None:
            profile.disable()
        marks.append(time.perf_counter() - executor.own_s)
        clock.is_on = False  # the segments in flight are not the window's
        coordinator.stop()

    vocab_size = session.corpus.vocabulary.size
    executor = Instant(arguments.workers + WARM_UP, arguments.segments, begin, end)
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(Path("/dev/null").open("w", encoding="utf-8"))
        begun = time.perf_counter()
        earlier = stack.enter_context(opened(job))
        proposer = job.propose(earlier, ())
        resume_s = time.perf_counter() - begun
        carried_on = {record.spec.seed for record in earlier if record.outcome is None}
        progress = LiveDisplay(Console(file=nowhere), 10**9, earlier)
        uploaders = list(stack.enter_context(views(job, arguments)))
        coordinator = Coordinator(
            proposer=proposer,
            earlier=earlier,
            settings=session.file.settings,
            journal=session.journal,
            executor=executor,
            run_segment=lambda spec, dev_losses, _: simulate(
                spec, len(dev_losses) + 1, vocab_size, lasts=spec.seed in carried_on
            ),
            vocab_size=vocab_size,
            n_workers=arguments.workers,
            observers=(progress, *uploaders),
        )
        owners = {"proposer": proposer, "journal": session.journal}
        for name, place in PARTS.items():
            owner, _, method = place.partition(".")
            call = clock.timed(name, getattr(owners[owner], method))
            stack.enter_context(mock.patch.object(owners[owner], method, call))
        coordinator.run(Limits(n_trials=10**9))
    if profile is not None:
        print(f"\n{n_trials:,} trials, {arguments.segments} segments:")
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    whole_ms = (marks[1] - marks[0]) / arguments.segments * 1e3
    found = {name: clock.seconds[name] / arguments.segments * 1e3 for name in PARTS}
    return {
        **found,
        "loop and display": whole_ms - sum(found.values()),
        "= coordinator": whole_ms,
        "segments/s": 1e3 / whole_ms,
        "asks a segment": clock.calls["ask"] / arguments.segments,
        "ask, ms a call": clock.seconds["ask"] / max(1, clock.calls["ask"]) * 1e3,
        "resume, s": resume_s,
    }


@contextlib.contextmanager
def views(job: Search, arguments: argparse.Namespace) -> Iterator[Sequence[Uploader]]:
    """Let the uploaders work, if they are asked for; they are left where they are at the end."""
    session, journal = job.session, job.journal
    found: list[Uploader] = []
    if arguments.views:
        tracker = make_tracker(session.workspace, journal, session.file, session.tracking_uri)
        found = [Uploader(view, journal, print) for view in (job.view(), tracker)]
        for uploader in found:
            uploader.start()
            uploader.wait_until_open(600)
    yield found
    for uploader in found:
        uploader.abandon()


def open_session(root: Path, arguments: argparse.Namespace) -> Session:
    """Open the study of one size."""
    given = {"recipe": "article", "sampler": arguments.sampler, "pruner": arguments.pruner}
    settings = root.parent / "settings.toml"
    lines = [f'{name} = "{value}"' for name, value in given.items() if name != "recipe"]
    settings.write_text("\n".join(['[training]\nrecipe = "article"\n[search]', *lines]), "utf-8")
    return Session.open(
        Request(workspace=root, n_trials=10**9, study="growth", config=settings, given={})
    )


def apart(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call something in a process of its own: MLflow keeps a database that it has opened."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(call, *args, **kwargs).result()


def show(arguments: argparse.Namespace, found: Mapping[int, Sequence[Mapping[str, float]]]) -> None:
    """Print the table, a row a part, a column a size."""
    sizes = arguments.sizes
    figures = {
        n: {name: spread([one[name] for one in runs]) for name in runs[0]}
        for n, runs in found.items()
    }
    goal = " / ".join(f"{GOALS[n]:g}" for n in sizes if n in GOALS)
    rows = []
    for name in figures[sizes[0]]:
        medians = [figures[n][name]["median"] for n in sizes]
        ends = zip(found[sizes[0]], found[sizes[-1]], strict=True)
        growth = [last[name] / first[name] for first, last in ends if first[name]]
        rows.append(
            {
                "ms a segment": name,
                **{f"{n:,}": f"{value:.2f}" for n, value in zip(sizes, medians, strict=True)},
                "growth": f"{statistics.median(growth):.1f}x" if growth else "",
                "goal": goal if name == "segments/s" else "",
            }
        )
    title = (
        f"{arguments.sampler}, {arguments.pruner}, {arguments.workers} trials at once; "
        f"medians of {arguments.repeats} turns{', views beside' if arguments.views else ''}\n"
        "ms a segment where nothing else is said"
    )
    sized = {str(n): each for n, each in figures.items()}
    report("growth", title, rows, {"settings": vars(arguments), "sizes": sized})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=64, help="trials that run at once")
    parser.add_argument("--segments", type=int, default=200, help="of a window")
    parser.add_argument("--sampler", default=Settings().sampler)
    parser.add_argument("--pruner", default=Settings().pruner)
    parser.add_argument("--views", action="store_true", help="let the uploaders work beside")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    arguments = parser.parse_args()
    found: dict[int, list[dict[str, float]]] = {n: [] for n in arguments.sizes}
    with tempfile.TemporaryDirectory() as scratch:
        # Always at the same path, which MLflow has written down for its artifacts.
        root = Path(scratch) / "runs"
        for n_trials in arguments.sizes:
            apart(fill, root, arguments, n_trials)
            root.rename(Path(scratch) / f"filled-{n_trials}")
        for n in range(arguments.repeats + arguments.profile):
            for n_trials in arguments.sizes:
                shutil.copytree(Path(scratch) / f"filled-{n_trials}", root)
                is_profiled = n == arguments.repeats
                result = apart(once, root, arguments, n_trials, is_profiled=is_profiled)
                shutil.rmtree(root)
                if not is_profiled:
                    found[n_trials].append(result)
    show(arguments, found)


if __name__ == "__main__":
    main()
