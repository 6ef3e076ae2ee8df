"""What the coordinator and MLflow cost a segment, as a study grows to thousands of trials.

    python bench/growth.py
    python bench/growth.py --sizes 50 500 --repeats 1
    python bench/growth.py --profile

The coordinator, its journal, Optuna's study on a local SQLite file and the plain progress display
are those of `mmsearch run`; only the training is left out. An executor within this process answers
each segment at once, with weights of the real size. So the loop is as busy as it can be, and
segments a second are what it can sustain, whatever number of workers asks for them.

How long a trial lasts decides how often is asked, so that is the same at each size: by chance of
its seed a trial is complete (`COMPLETE` of them) or falls behind at an early segment, and the
pruner ends it there; about as in the default search of 50 trials. What lasts has one curve, and
scores that depend on the hyperparameters and on chance.

Each study is filled with as many ended trials as its size says before anything is measured: in
Optuna through `add_trial`, in the journal through its own calls, in MLflow by copying the rows of
a few trials that were shown as they should be. Their proposals are better than chance, as a
sampler's are. `--workers` trials more, of all ages, are left running for the coordinator to carry
on, and after `WARM_UP` segments a window of `--segments` is measured. The sizes take turns; each
turn starts from the same filled study again, in a process of its own.

Counted as the coordinator's is the window's wall time without the executor's own: Optuna (ask,
report, should_prune, tell), the journal with its flushes to the disk, the display, and the rest of
the loop. Asking and telling are once a trial, and are divided by all the window's segments; the
number of asks a segment stands beside it. The processor time of the loop's thread is what a busy
machine or a slow disk changes least.

MLflow is flushed separately, after it, by the calls of the mirror's thread on the local store:
the run that begins, one segment at a time, and the end with its figures, weighted as in the
window. `open` is what the mirror does once: to find all runs. With `--mirror` the thread itself
works beside the coordinator, which then shares the interpreter with it.

Medians over turns; `growth` is the last size against the first one, within a turn. `--profile`
runs the window of each size once more and prints the functions that take most, cumulative.
"""

from __future__ import annotations

import argparse
import collections
import cProfile
import hashlib
import math
import multiprocessing
import pstats
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
import uuid
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

import numpy as np
import optuna
import sqlalchemy
from report import report, spread
from rich.console import Console
from safetensors.numpy import save

from mmsearch.search.coordinator import Coordinator, Limits
from mmsearch.search.progress import Progress
from mmsearch.search.session import Request, Search, Session
from mmsearch.search.settings import Settings
from mmsearch.search.shown import make_tracker, summarise
from mmsearch.search.storage import open_storage
from mmsearch.search.study import StudyHandle, trial_seed
from mmsearch.search.worker import SegmentResult
from mmsearch.tracking.journal import Journal, Outcome, SegmentRecord
from mmsearch.tracking.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.coordinator import Observer, Proposal
    from mmsearch.tracking.journal import TrialRecord
    from mmsearch.tracking.mlflow import StudyTracker

T = TypeVar("T")

STUDY = "growth"
N_REAL = 16
"""Trials of a fill that the coordinator makes itself, to copy from."""
WARM_UP = 100
"""Segments after which the window begins, besides one of each trial carried on."""
N_FLUSHED = 8
"""Trials of the window that are shown in MLflow."""
N_POINTS = 10
"""Points of a segment's curve, as in training."""
N_SHOWN = 45
"""Functions of a profile."""
COMPLETE, PRUNED_NOW = 0.35, 0.5
"""Shares of trials that last, and of the others that fall behind at each segment."""
GOAL_GROWTH, GOAL_RATE = 3.0, 100.0
PARTS = ("ask", "report", "should_prune", "tell", "journal", "display")


class Clocks:
    """Seconds and calls, by what was called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.calls: dict[str, int] = collections.defaultdict(int)
        self.is_stopped = False

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Time what is done within."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            if not self.is_stopped:
                self.seconds[name] += time.perf_counter() - begun
                self.calls[name] += 1

    def clear(self) -> None:
        """Begin anew."""
        self.seconds.clear()
        self.calls.clear()


@dataclass(slots=True)
class TimedProposer:
    """Optuna's study, timed."""

    study: StudyHandle
    clocks: Clocks

    def counts(self) -> Mapping[str, int]:
        """Count trials by state."""
        return self.study.counts()

    def running(self) -> list[int]:
        """Find trials of an earlier process."""
        return self.study.running()

    def ask(self) -> Proposal:
        """Begin a trial."""
        with self.clocks.of("ask"):
            return self.study.ask()

    def attach(self, number: int) -> Proposal:
        """Take up a trial."""
        return self.study.attach(number)

    def report(self, number: int, step: int, dev_loss: float) -> None:
        """Hear a dev loss."""
        with self.clocks.of("report"):
            self.study.report(number, step, dev_loss)

    def should_prune(self, number: int) -> bool:
        """Whether a trial shall end."""
        with self.clocks.of("should_prune"):
            return self.study.should_prune(number)

    def tell(self, number: int, state: str, dev_loss: float | None, reason: str) -> None:
        """Hear how a trial ended."""
        with self.clocks.of("tell"):
            self.study.tell(number, state, dev_loss, reason)

    def close(self) -> None:
        """Let go of the storage."""
        self.study.close()

    def stop(self) -> None:
        """Wait for nothing any more."""
        self.study.stop()


class TimedJournal(Journal):
    """The journal, timed."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        super().__init__(folder)
        self._clocks = clocks

    def has_begun(self, number: int) -> bool:
        """Whether a trial has a spec."""
        with self._clocks.of("journal"):
            return super().has_begun(number)

    def start(self, number: int, spec: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Note that a trial begins."""
        with self._clocks.of("journal"):
            super().start(number, spec, facts)

    def append(
        self, number: int, record: SegmentRecord, weights: bytes, samples: Sequence[str] = ()
    ) -> None:
        """Note one segment."""
        with self._clocks.of("journal"):
            super().append(number, record, weights, samples)

    def finish(self, number: int, outcome: Outcome, *, error: str = "") -> None:
        """Note how a trial ended."""
        with self._clocks.of("journal"):
            super().finish(number, outcome, error=error)


@dataclass(slots=True)
class TimedObserver:
    """An observer, timed."""

    observer: Observer
    clocks: Clocks
    states: collections.Counter[str] = field(default_factory=collections.Counter)
    """Of the trials that ended."""

    def show(self, record: TrialRecord) -> None:
        """Take note of a trial's news."""
        with self.clocks.of("display"):
            self.observer.show(record)
        if record.outcome is not None and not self.clocks.is_stopped:
            self.states[record.state] += 1


def quality(spec: TrialSpec) -> float:
    """Give the dev loss that a trial would reach but for chance."""
    rate = math.log10(spec.learning_rate) + 0.7
    width = math.log2(512 / spec.hidden_width) + math.log2(48 / spec.embedding_dim)
    return 2.0 + 0.25 * rate**2 + 0.03 * width + 0.01 * abs(spec.block_size - 6)


def last_segment(spec: TrialSpec) -> int:
    """Give the segment at which a trial falls behind; its last one where it lasts."""
    chance = random.Random(spec.seed)  # noqa: S311 (no secret)
    segment = spec.n_segments
    if chance.random() > COMPLETE:
        segment = 1
        while chance.random() > PRUNED_NOW:
            segment += 1
    return min(segment, spec.n_segments)


def dev_loss(spec: TrialSpec, segment: int, *, lasts: bool = False) -> float:
    """Give the dev loss after a segment, in nats; `lasts` whatever chance says."""
    if segment == spec.n_segments:
        chance = random.Random(spec.seed + 1)  # noqa: S311 (no secret)
        return quality(spec) + chance.gauss(0, 0.02)
    behind = 0.0 if lasts or segment < last_segment(spec) else 0.5 + quality(spec)
    return 2.1 + 0.5 * math.pow(1 - segment / spec.n_segments, 1.5) + behind


def simulate(spec: TrialSpec, segment: int, vocab_size: int, *, lasts: bool) -> SegmentResult:
    """Answer a segment as a worker would."""
    loss = dev_loss(spec, segment, lasts=lasts)
    end, n_steps = spec.segment_end(segment), spec.n_steps // spec.n_segments
    steps = [end - n_steps + n_steps * n // N_POINTS for n in range(1, N_POINTS + 1)]
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
    own_processor_s: float = 0.0
    """Likewise of processor time."""
    _n_calls: int = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` now."""
        if self._n_calls == self.n_before:
            self.own_s = self.own_processor_s = 0.0
            self.on_begin()
        begun, processor_s = time.perf_counter(), time.thread_time()
        if self._n_calls == self.n_before + self.n_segments:
            self.on_end()
        self._n_calls += 1
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        self.own_s += time.perf_counter() - begun
        self.own_processor_s += time.thread_time() - processor_s
        return future


def draw(settings: Settings, number: int) -> TrialSpec:
    """Propose a trial: the best of eight by chance."""
    seed = trial_seed(settings.seed, number)
    chance = random.Random(seed)  # noqa: S311 (no secret)
    specs = []
    for _ in range(8):
        point: dict[str, float] = {}
        for name, dimension in settings.space.dimensions.items():
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
    """Make a study of `n_trials` ended trials: in Optuna, in the journal and in MLflow."""
    session = open_session(root, arguments)
    session.workspace.create()
    session.journal.create()
    handle = Search(session).open(print)
    # What is filled in is not measured, and need not survive anything.
    with mock.patch("os.fsync"):
        run(session, handle, Limits(n_trials=N_REAL), n_workers=1)
        fill_journal_and_optuna(session, n_trials, arguments.workers)
    tracker = tracker_of(session)
    tracker.open()
    for record in session.journal.records()[:N_REAL]:
        tracker.show_trial(record, session.journal)
    fill_mlflow(session)


def fill_journal_and_optuna(session: Session, n_trials: int, n_workers: int) -> None:
    """Add trials to those that a study has, until `n_trials` have ended and `n_workers` run."""
    storage = open_storage(session.storage)
    sqlalchemy.event.listen(
        storage.engine, "connect", lambda each, _: each.execute("PRAGMA synchronous=OFF")
    )
    storage.engine.dispose()
    study = optuna.load_study(study_name=STUDY, storage=storage)
    model = study.get_trials(deepcopy=False)[0]
    settings, journal = session.file.settings, session.journal
    facts = journal.read(0).facts
    for number in range(N_REAL, n_trials + n_workers):
        spec, is_running = draw(settings, number), number >= n_trials
        n_done = spec.n_segments if settings.pruner == "none" else last_segment(spec)
        if is_running:
            # Of all ages: else they would all end at once.
            n_done = (number - n_trials) * spec.n_segments // n_workers
        losses = [dev_loss(spec, n, lasts=is_running) for n in range(1, n_done + 1)]
        state = "COMPLETE" if n_done == spec.n_segments else "PRUNED"
        state = "RUNNING" if is_running else state
        values = spec.to_json()
        journal.start(number, values, facts)
        content = save({"C": np.zeros((session.corpus.vocabulary.size, spec.embedding_dim))})
        for segment, loss in enumerate(losses, start=1):
            line = SegmentRecord(
                segment=segment,
                step=spec.segment_end(segment),
                train=[(spec.segment_end(segment), loss, spec.learning_rate)],
                dev_loss=loss,
                wall_s=0.5,
                ended_ms=facts["started_ms"],
                weights_sha256=hashlib.sha256(content).hexdigest(),
            )
            journal.append(number, line, content)
        if not is_running:
            journal.finish(number, Outcome(state=state, ended_ms=facts["started_ms"]))
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[state],
                value=losses[-1] if state == "COMPLETE" else None,
                params={name: values[name] for name in model.distributions},
                distributions=model.distributions,
                intermediate_values={
                    spec.segment_end(segment): loss for segment, loss in enumerate(losses, start=1)
                },
            )
        )
    storage.engine.dispose()


def fill_mlflow(session: Session) -> None:
    """Copy the rows of shown runs for the trials that MLflow lacks."""
    records = [record for record in session.journal.records() if record.outcome]
    like = {record.state: record.number for record in records[:N_REAL]}
    path = session.tracking_uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA synchronous=OFF")
        found = database.execute("SELECT value, run_uuid FROM tags WHERE key = 'mmsearch.trial'")
        runs = {int(number): run for number, run in found}
        for record in records[N_REAL:]:
            source, fresh = runs[like[record.state]], uuid.uuid4().hex
            for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
                info = database.execute(f"PRAGMA table_info({table})")
                names = [f'"{row[1]}"' for row in info]
                chosen = ["?" if name == '"run_uuid"' else name for name in names]
                # S608: the names are the database's own
                database.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) "  # noqa: S608
                    f"SELECT {', '.join(chosen)} FROM {table} WHERE run_uuid = ?",
                    (fresh, source),
                )
            database.execute(
                "UPDATE tags SET value = ? WHERE key = 'mmsearch.trial' AND run_uuid = ?",
                (str(record.number), fresh),
            )
    database.close()


def tracker_of(session: Session) -> StudyTracker:
    """Make what shows the study in MLflow."""
    return make_tracker(session.workspace, session.journal, session.file, session.tracking_uri)


def run(  # noqa: PLR0913 (what a window can differ in)
    session: Session,
    handle: StudyHandle,
    limits: Limits,
    *,
    n_workers: int,
    n_segments: int | None = None,
    mirror: Mirror | None = None,
    profile: cProfile.Profile | None = None,
) -> dict[str, float]:
    """Run the coordinator and measure a window of it, if `n_segments` are asked for.

    Returns:
        Milliseconds a segment by part, and what else the window says.
    """
    clocks = Clocks()
    marks: list[tuple[float, float]] = []
    vocab_size, settings = session.corpus.vocabulary.size, session.file.settings
    seeds = {trial_seed(settings.seed, number) for number in handle.running()}
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        progress = Progress(Console(file=nowhere), limits.n_trials, session.journal.records())
        display = TimedObserver(progress, clocks)

        def begin() -> None:
            clocks.clear()
            display.states.clear()
            marks.append((time.perf_counter(), time.thread_time()))
            if profile is not None:
                profile.enable()

        def end() -> None:
            if profile is not None:
                profile.disable()
            wall_s, processor_s = time.perf_counter(), time.thread_time()
            marks.append((wall_s - executor.own_s, processor_s - executor.own_processor_s))
            # The segments in flight are not the window's.
            clocks.is_stopped = True
            coordinator.stop()

        executor = Instant(
            n_before=n_workers + WARM_UP if n_segments else -1,
            n_segments=n_segments or 0,
            on_begin=begin,
            on_end=end,
        )
        coordinator = Coordinator(
            proposer=TimedProposer(handle, clocks),
            settings=settings,
            journal=TimedJournal(session.journal.folder, clocks),
            executor=executor,
            run_segment=lambda spec, dev_losses, _: simulate(
                spec, len(dev_losses) + 1, vocab_size, lasts=spec.seed in seeds
            ),
            vocab_size=vocab_size,
            n_workers=n_workers,
            observers=(display, mirror) if mirror else (display,),
        )
        coordinator.run(limits)
    if n_segments is None:
        return {}
    wall_s, processor_s = (after - before for before, after in zip(*marks, strict=True))
    return {
        **measured(clocks, display, wall_s, n_segments),
        "processor time": processor_s / n_segments * 1e3,
    }


def measured(
    clocks: Clocks, display: TimedObserver, seconds: float, n_segments: int
) -> dict[str, float]:
    """Give a window's figures: milliseconds a segment, and how often each part was called."""
    found = {part: clocks.seconds[part] / n_segments * 1e3 for part in PARTS}
    calls = {
        f"{part} ms a call": clocks.seconds[part] / max(1, clocks.calls[part]) * 1e3
        for part in PARTS
    }
    whole_ms = seconds / n_segments * 1e3
    return {
        **found,
        **calls,
        "loop": whole_ms - sum(found.values()),
        "coordinator": whole_ms,
        "segments/s": 1e3 / whole_ms,
        "asks a segment": clocks.calls["ask"] / n_segments,
        "complete": display.states["COMPLETE"] / max(1, sum(display.states.values())),
    }


def flush(session: Session, first: int, window: Mapping[str, float]) -> dict[str, float]:
    """Show trials from number `first` on in MLflow as the mirror does; milliseconds."""
    tracker = tracker_of(session)
    clocks = Clocks()
    with clocks.of("open"):
        tracker.open()
        missing = tracker.missing(session.journal)
    by_state: dict[str, list[int]] = collections.defaultdict(list)
    for number in missing:
        if number >= first:
            by_state[session.journal.read(number).state].append(number)
    chosen = [n for numbers in by_state.values() for n in numbers[: N_FLUSHED // 2]]
    for n in chosen:
        whole = session.journal.read(n)
        live = replace(whole, curve=(), outcome=None)
        with clocks.of("begin"):
            tracker.show_trial(live, session.journal)
        for end in range(1, len(whole.curve) + 1):
            live = replace(live, curve=whole.curve[:end])
            with clocks.of("segment"):
                tracker.show_trial(live, session.journal)
        with clocks.of(whole.state):
            tracker.show_trial(whole, session.journal)
    ms = {name: clocks.seconds[name] / clocks.calls[name] * 1e3 for name in clocks.calls}
    complete, pruned = ms.get("COMPLETE", 0.0), ms.get("PRUNED", 0.0)
    end_ms = window["complete"] * complete + (1 - window["complete"]) * pruned
    with clocks.of("close"):
        tracker.show_study(summarise(session.journal, session.file, looks=()))
    return {
        "MLflow begin": ms["begin"],
        "MLflow segment": ms["segment"],
        "MLflow end, complete": complete,
        "MLflow end, pruned": pruned,
        "MLflow flush": ms["segment"] + (ms["begin"] + end_ms) * window["asks a segment"],
        "MLflow open": ms["open"],
        "MLflow close": clocks.seconds["close"] * 1e3,
    }


def once(
    root: Path, arguments: argparse.Namespace, n_trials: int, *, is_profiled: bool
) -> dict[str, float]:
    """Measure one window of a filled study, or print a profile of it."""
    profile = cProfile.Profile() if is_profiled else None
    session = open_session(root, arguments)
    begun = time.perf_counter()
    handle = Search(session).open(print)
    handle.counts()
    opened_ms = (time.perf_counter() - begun) * 1e3
    mirror = None
    if arguments.mirror:
        mirror = Mirror(tracker_of(session), session.journal, on_behind=print)
        mirror.start()
    window = run(
        session,
        handle,
        Limits(n_trials=10**9),
        n_workers=arguments.workers,
        n_segments=arguments.segments,
        mirror=mirror,
        profile=profile,
    )
    if mirror is not None:
        mirror.close(summarise(session.journal, session.file, looks=()))
    elif profile is None:
        window |= flush(session, n_trials, window)
    if profile is not None:
        print(f"\n{n_trials:,} trials, {arguments.segments} segments:")
        pstats.Stats(profile).sort_stats("cumulative").print_stats(N_SHOWN)
    return {**window, "Optuna open": opened_ms}


def open_session(root: Path, arguments: argparse.Namespace) -> Session:
    """Open the study of one size."""
    return Session.open(
        Request(
            workspace=root,
            n_trials=10**9,
            study=STUDY,
            given={"sampler": arguments.sampler, "pruner": arguments.pruner},
        )
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
    goals = {"coordinator": f"up to {GOAL_GROWTH:g}x", "segments/s": f"{GOAL_RATE:g}"}
    rows = []
    names = [*PARTS, "loop", "coordinator", "processor time", "segments/s", "asks a segment"]
    names += [f"{part} ms a call" for part in PARTS[:4]]
    names += [name for name in figures[sizes[0]] if name.startswith(("MLflow", "Optuna"))]
    for name in names:
        medians = [figures[n][name]["median"] for n in sizes]
        label = {"coordinator": "= coordinator", "processor time": "  of it processor time"}
        ends = zip(found[sizes[0]], found[sizes[-1]], strict=True)
        growth = [last[name] / first[name] for first, last in ends if first[name]]
        rows.append(
            {
                "ms a segment": label.get(name, name),
                **{f"{n:,}": f"{ms:.2f}" for n, ms in zip(sizes, medians, strict=True)},
                "growth": f"{statistics.median(growth):.1f}x" if growth else "",
                "goal": goals.get(name, ""),
            }
        )
    title = (
        f"{arguments.sampler}, {arguments.pruner}, {arguments.workers} trials at once; "
        f"medians of {arguments.repeats} turns\n"
        "ms a segment where nothing else is said; MLflow and Optuna: ms a call"
    )
    settings = {name: value for name, value in vars(arguments).items() if name != "sizes"}
    sized = {str(n): each for n, each in figures.items()}
    report("growth", title, rows, {"settings": settings, "sizes": sized})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=64, help="trials that run at once")
    parser.add_argument("--segments", type=int, default=200, help="of a window")
    parser.add_argument("--sampler", default=Settings().sampler)
    parser.add_argument("--pruner", default=Settings().pruner)
    parser.add_argument("--mirror", action="store_true", help="let MLflow's thread work beside")
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
