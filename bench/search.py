"""The whole command against the plain peer of `bench/peer.py`, from process start to end.

    python bench/search.py --same
    python bench/search.py --free --corpus names.txt --keep-duplicates
    python bench/search.py --same --trials 3 --steps 1000 --repeats 1     # a quick check

`--same`: both train the same configurations, drawn once from the default space and enqueued,
without pruning, with the same number of steps, dev evaluations and examples a batch. What counts is
the wall time from process start to process end, databases and figures included.

`--free`: each searches with its own defaults. What counts is the wall time until a dev loss at or
below a mark was first evaluated, and the best dev loss at equal time. A run that never reaches the
mark counts with infinity.

Both score the same words, which is checked. They take turns, with a seed for each turn; ratios are
taken within a turn, and medians are printed with the lowest and the highest. Both have an empty
home and have been started once before; MLflow's telemetry is off. "neighbours" is how many cores
other processes had meanwhile: unless it is near 0, repeat, or give the peer `--peer-threads 1`,
since its torch threads wait for each other. Needs Linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from report import MMSEARCH, draw_point, environment, report, spread, timed

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.search.study.settings import settle
from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PEER = Path(__file__).with_name("peer.py")
MARKS = (2.31, 2.17, 2.10)
"""Dev losses to reach: where such a peer once ended, the lecture's MLP, and its better start."""
IDLE_CORES = 0.1
"""Cores that neighbours may have on a machine that counts as idle."""
N_SEGMENTS, BATCH_SIZE, PEER_STEPS = 20, 32, 20_000
STUDY = "bench"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one command did."""

    whole_s: float
    """Seconds from process start to process end."""
    processor_s: float
    """Processor time of all its processes."""
    neighbours: float
    """Cores that other programs had meanwhile."""
    n_steps: int
    """Steps of all trials up to their last dev evaluation."""
    curve: list[tuple[float, float]]
    """Seconds since process start, and the best dev loss so far, wherever it improved."""

    @property
    def best(self) -> float:
        """The lowest dev loss evaluated."""
        return self.best_at(math.inf)

    def first_at(self, mark: float) -> float:
        """Return the seconds until a dev loss was at most `mark`; infinity if none was."""
        return next((seconds for seconds, loss in self.curve if loss <= mark), math.inf)

    def best_at(self, seconds: float) -> float:
        """Return the lowest dev loss evaluated by then."""
        return min((loss for when, loss in self.curve if when <= seconds), default=math.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What both commands are asked to do."""

    trials: int
    steps: int | None
    """Steps of each trial; None leaves mmsearch its default."""
    corpus: Path
    keep_duplicates: bool
    points: Sequence[dict[str, float]] = ()
    """Configurations to train without pruning; none for a free search."""
    peer_threads: int = 0

    def shared_words(self, seed: int) -> list[str]:
        """Return the options that both commands have."""
        words = ["--trials", str(self.trials), "--seed", str(seed), "--corpus", str(self.corpus)]
        words += ["--pruner", "none"] if self.points else []
        return [*words, "--keep-duplicates"] if self.keep_duplicates else words


def draw(n_points: int, seed: int) -> list[dict[str, float]]:
    """Draw configurations from the space of the article's recipe, which is the peer's."""
    chance, settings = random.Random(seed), settle({"recipe": "article"})  # noqa: S311 (no secret)
    searched = [n for n, each in settings.space.dimensions.items() if not each.is_fixed]
    points = [draw_point(settings, chance) for _ in range(n_points)]
    return [{name: point[name] for name in searched} for point in points]


def best_so_far(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep, of (seconds, dev loss), each that was better than all before."""
    kept: list[tuple[float, float]] = []
    for seconds, loss in sorted(points):
        if not kept or loss < kept[-1][1]:
            kept.append((seconds, loss))
    return kept


def run_peer(task: Task, seed: int, folder: Path, env: Mapping[str, str]) -> Run:
    """Run the peer."""
    words = [sys.executable, str(PEER), *task.shared_words(seed), "--folder", str(folder)]
    words += ["--threads", str(task.peer_threads), "--steps", str(task.steps or PEER_STEPS)]
    if task.points:
        points = folder / "points.json"
        points.write_text(json.dumps(task.points), "utf-8")
        words += ["--enqueue", str(points)]
    spent = timed([*words, "--began", str(time.time())], env, folder / "output.txt")
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    first, *notes = [json.loads(line) for line in lines]
    check_words(task, first)
    study = optuna.load_study(study_name="peer", storage=f"sqlite:///{folder}/optuna.db")
    check_points(task, {trial.number: trial.params for trial in study.trials})
    return Run(
        **spent,
        n_steps=sum({note["trial"]: note["step"] for note in notes}.values()),
        curve=best_so_far([(note["seconds"], note["dev_loss"]) for note in notes]),
    )


def run_ours(task: Task, seed: int, folder: Path, env: Mapping[str, str]) -> Run:
    """Run mmsearch."""
    words = [MMSEARCH, "run", *task.shared_words(seed), "--workspace", str(folder)]
    words += ["--study", STUDY]
    words += [] if task.steps is None else ["--steps", str(task.steps)]
    if task.points:
        lines = ['[training]\nrecipe = "article"', f"segments = {N_SEGMENTS}"]
        lines.append(f"batch_size = {BATCH_SIZE}")
        for point in task.points:
            lines += ["[[enqueue]]", *(f"{name} = {value!r}" for name, value in point.items())]
        config = folder / "search.toml"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        words += ["--config", str(config)]
    began = time.time()
    spent = timed(words, env, folder / "output.txt")
    records = Journal(folder / STUDY).records()
    check_points(task, {record.number: record.spec.to_json() for record in records})
    segments = [segment for record in records for segment in record.curve]
    return Run(
        **spent,
        n_steps=sum(record.curve[-1].step for record in records if record.curve),
        curve=best_so_far([(line.ended_ms / 1000 - began, line.dev_loss) for line in segments]),
    )


def check_words(task: Task, note: Mapping[str, Any]) -> None:
    """Stop if the peer does not score mmsearch's dev words."""
    split = split_corpus(read_corpus(task.corpus, keep_duplicates=task.keep_duplicates))
    dev_sha256 = hashlib.sha256("\n".join(split.dev).encode()).hexdigest()
    if (note["n_train"], note["dev_sha256"]) != (len(split.train), dev_sha256):
        raise SystemExit("the peer's words are not mmsearch's")


def check_points(task: Task, trained: Mapping[int, Mapping[str, Any]]) -> None:
    """Stop if a trial is not the configuration that was enqueued for its number."""
    for number, point in enumerate(task.points):
        found = {name: trained[number][name] for name in point}
        if found != point:
            raise SystemExit(f"trial {number} is {found}, not {point}")


Turn = tuple[Run, Run]
"""The peer's run and ours."""


def take_turns(task: Task, repeats: int) -> list[Turn]:
    """Run both in turns; the first turn, of one short trial, only warms up."""
    commands: list[Callable[[Task, int, Path, Mapping[str, str]], Run]] = [run_peer, run_ours]
    words = {"corpus": task.corpus, "keep_duplicates": task.keep_duplicates}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        env = {**environment(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        turns = []
        for n in range(-1, repeats):
            runs = {}
            for command in commands[:: 1 if n % 2 else -1]:
                folder = home / f"{n}" / command.__name__
                folder.mkdir(parents=True)
                now = task if n >= 0 else Task(trials=1, steps=100, **words)
                run = runs[command.__name__] = command(now, max(0, n), folder, env)
                print(f"turn {n + 1}, {command.__name__}: {run.whole_s:.1f} s, {run.best:.4f}")
            turns.append((runs["run_peer"], runs["run_ours"]))
    return turns[1:]


def shown(values: Sequence[float], form: str, unit: str = "") -> str:
    """Format the median of values and, below it, the lowest and the highest if they differ."""
    found = spread(values)
    low, high = f"{found['low']:{form}}", f"{found['high']:{form}}"
    return f"{found['median']:{form}}{unit}" + (f"\n{low}-{high}" if low != high else "")


def compared(
    what: str, values: Sequence[tuple[float, float]], form: str = ".1f", *, has_ratio: bool = True
) -> dict[str, str]:
    """Return a row of the peer's and our values, by turns."""
    theirs, ours = zip(*values, strict=True)
    ratios = [t / o for t, o in values if math.isfinite(t) and math.isfinite(o)]
    return {
        "what": what,
        "plain peer": shown(theirs, form),
        "mmsearch": shown(ours, form),
        "ratio": shown(ratios, ".1f", "x") if has_ratio and ratios else "",
    }


def common_rows(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Return the rows of both tables that explain the others."""

    def each(get: Callable[[Run], float]) -> list[tuple[float, float]]:
        return [(get(peer), get(ours)) for peer, ours in turns]

    return [
        compared("seconds, start to end", each(lambda run: run.whole_s)),
        compared("lowest dev loss, in the end", each(lambda run: run.best), ".4f", has_ratio=False),
        compared("processor seconds", each(lambda run: run.processor_s)),
        compared("steps trained", each(lambda run: run.n_steps), ",.0f"),
        compared("neighbours, cores", each(lambda run: run.neighbours), ".2f", has_ratio=False),
    ]


def free_rows(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Return the rows of a free search: time to each mark, and dev loss at equal time."""
    ends = [min(peer.whole_s, ours.whole_s) for peer, ours in turns]
    equal = [(p.best_at(end), o.best_at(end)) for (p, o), end in zip(turns, ends, strict=True)]
    name = f"lowest dev loss, at {statistics.median(ends):.0f} s"
    return [
        *(
            compared(f"seconds to {m:.2f}", [(p.first_at(m), o.first_at(m)) for p, o in turns])
            for m in MARKS
        ),
        compared(name, equal, ".4f", has_ratio=False),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--same", action="store_true", help="the same trials in both")
    kind.add_argument("--free", action="store_true", help="each with its own defaults")
    parser.add_argument("--trials", type=int, help="default: 30 of the same, 50 of a free search")
    parser.add_argument("--steps", type=int, help="of each trial; a multiple of 20")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=BUILTIN_CORPUS, help="one word per line")
    parser.add_argument("--keep-duplicates", action="store_true", help="the article's protocol")
    parser.add_argument("--seed", type=int, default=0, help="of the same configurations")
    parser.add_argument("--peer-threads", type=int, default=0, help="--threads of peer.py")
    arguments = parser.parse_args()
    n_trials = arguments.trials or (30 if arguments.same else 50)
    task = Task(
        trials=n_trials,
        steps=arguments.steps or (10_000 if arguments.same else None),
        corpus=arguments.corpus,
        keep_duplicates=arguments.keep_duplicates,
        points=draw(n_trials, arguments.seed) if arguments.same else (),
        peer_threads=arguments.peer_threads,
    )
    turns = take_turns(task, arguments.repeats)
    title = f"{n_trials} trials of {task.steps or 'default'} steps, {arguments.repeats} turns"
    most = max(run.neighbours for turn in turns for run in turn)
    if most > IDLE_CORES:
        title += f"\nnot idle: neighbours had up to {most:.2f} cores; repeat, or use --peer-threads"
    rows = [*(() if arguments.same else free_rows(turns)), *common_rows(turns)]
    figures = {
        "task": {**asdict(task), "corpus": task.corpus.name},
        "turns": [{"peer": asdict(peer), "mmsearch": asdict(ours)} for peer, ours in turns],
    }
    report("search-same" if arguments.same else "search-free", title, rows, figures)


if __name__ == "__main__":
    main()
