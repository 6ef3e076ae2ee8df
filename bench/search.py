"""The whole command against the plain peer of `bench/peer.py`, from process start to end.

    python bench/search.py --same
    python bench/search.py --free --corpus names.txt --keep-duplicates
    python bench/search.py --same --trials 3 --steps 1000 --repeats 1     # does it work at all?

`--same`: both train the same configurations, drawn once from mmsearch's default space by a seed
and enqueued; nothing is pruned, and each trial has as many steps, 20 dev evaluations and batches
of 32 in both. What counts is the wall time from process start to process end: imports,
databases, figures, everything. A trial that diverges ends early in mmsearch, which makes up for it
with another; so the steps that each trained stand in the table, too.

`--free`: each searches as it comes, mmsearch with its own defaults. What counts is the wall time
from process start until a dev loss at or below a mark was first evaluated, of any trial at any
step: in the journal that is the end of a segment, in the peer's log the evaluation. Who never gets
there counts with the whole time, shown as "≥"; so does a median or a ratio that such a time could
still raise. Then the best dev loss at equal time, when the first of the two had ended, and at the
end of each. Both train and score on the same words, and that is checked.

The two take turns, and who begins changes from turn to turn. Ratios are taken within a turn;
printed are medians over the turns and, below, the lowest and the highest. A turn has a seed of its
own: of the proposals and the training of both. Both have an empty home folder, and have been
started once before, so that neither compiles byte-code or lists fonts. MLflow's telemetry is off
for both.

Trials by how they ended are added up over the turns.

"neighbours" is how many cores other processes of the machine had meanwhile. Where it is not near 0
the comparison is worth little, and it is said: the peer's torch threads wait for each other, which
`--peer-threads 1` spares it, and mmsearch uses all cores. The JSON file has each run's best dev
loss so far against seconds, to draw.

Needs Linux, for the neighbours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from report import report, spread
from start import MMSEARCH, environment

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.search.study.settings import settle
from mmsearch.search.study.space import Range
from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


PEER = Path(__file__).with_name("peer.py")
MARKS = (2.31, 2.17, 2.10)
"""Dev losses to reach: where such a peer once ended, the lecture's MLP, and the same begun well."""
IDLE_CORES = 0.1
"""What neighbours may have of a machine that counts as idle."""
REACH_SAME, REACH_FREE = 5.0, {2.17: 20.0}
N_SEGMENTS, BATCH_SIZE, PEER_STEPS = 20, 32, 20_000
STUDY = "bench"
Point = dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one command did."""

    whole_s: float
    """From process start to process end."""
    processor_s: float
    """Of all its processes."""
    neighbours: float
    """Cores that everybody else on the machine had meanwhile."""
    n_steps: int
    """Trained, of all trials, up to their last dev evaluation."""
    states: dict[str, int]
    """Trials by Optuna's word for how they ended."""
    curve: list[tuple[float, float]]
    """Seconds since process start and the best dev loss so far, where it got better."""

    @property
    def best(self) -> float:
        """The lowest dev loss evaluated."""
        return self.curve[-1][1] if self.curve else math.inf

    def first_at(self, mark: float) -> float:
        """Give the seconds until a dev loss was at most `mark`; inf where none was."""
        return next((seconds for seconds, loss in self.curve if loss <= mark), math.inf)

    def best_at(self, seconds: float) -> float:
        """Give the lowest dev loss evaluated by then."""
        return min((loss for when, loss in self.curve if when <= seconds), default=math.inf)


def draw(n_points: int, seed: int) -> list[Point]:
    """Draw configurations from the space of the article's recipe, which is the peer's."""
    generator = random.Random(seed)  # noqa: S311 (repeatable, not a secret)

    def value(dimension: Range) -> float:
        # Whole numbers get equal shares, the two at the ends as well.
        margin = 0.5 if dimension.is_int else 0.0
        low, high = dimension.low - margin, dimension.high + margin
        if dimension.log:
            drawn = math.exp(generator.uniform(math.log(low), math.log(high)))
        else:
            drawn = generator.uniform(low, high)
        drawn = min(max(drawn, dimension.low), dimension.high)
        return round(drawn) if dimension.is_int else drawn

    dimensions = settle({"recipe": "article"}).space.dimensions.items()
    searched = {n: each for n, each in dimensions if isinstance(each, Range) and not each.is_fixed}
    return [{name: value(each) for name, each in searched.items()} for _ in range(n_points)]


def best_so_far(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep, of (seconds, dev loss), what was better than all before."""
    best, kept = math.inf, []
    for seconds, loss in sorted(points):
        if loss < best:
            best = loss
            kept.append((seconds, loss))
    return kept


def busy_s() -> float:
    """Read what all cores together have worked."""
    row = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    user, nice, system, _idle, _wait, *interrupts = map(int, row.split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def timed(words: Sequence[str], env: Mapping[str, str], log: Path) -> dict[str, float]:
    """Run a command to its end, its output into `log`; seconds, and seconds of its processes."""
    before, busy = resource.getrusage(resource.RUSAGE_CHILDREN), busy_s()
    with log.open("wb") as output:
        clock = time.perf_counter()
        done = subprocess.run(words, env=env, check=False, stdout=output, stderr=output)  # noqa: S603 (our words)
        whole_s = time.perf_counter() - clock
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{log.read_text('utf-8')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    neighbours = max(0.0, busy_s() - busy - processor_s) / whole_s
    return {"whole_s": whole_s, "processor_s": processor_s, "neighbours": neighbours}


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What both are asked to do."""

    trials: int
    steps: int | None
    """Of each trial; None leaves mmsearch its default."""
    peer_steps: int
    corpus: Path
    keep_duplicates: bool
    points: Sequence[Point] = ()
    """Trained without pruning; a free search where there are none."""
    peer_words: Sequence[str] = ()
    """What else the peer is told."""

    def shared_words(self, seed: int) -> list[str]:
        """Give the flags that both have."""
        words = ["--trials", str(self.trials), "--seed", str(seed), "--corpus", str(self.corpus)]
        words += ["--pruner", "none"] if self.points else []
        return [*words, "--keep-duplicates"] if self.keep_duplicates else words


def run_peer(task: Task, seed: int, folder: Path, env: Mapping[str, str]) -> Run:
    """Run the peer."""
    folder.mkdir(parents=True)
    words = [sys.executable, str(PEER), *task.shared_words(seed), *task.peer_words]
    words += ["--folder", str(folder), "--steps", str(task.peer_steps)]
    if task.points:
        points = folder / "points.json"
        points.write_text(json.dumps(task.points), "utf-8")
        words += ["--enqueue", str(points)]
    spent = timed([*words, "--began", str(time.time())], env, folder / "output.txt")
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    notes = [json.loads(line) for line in lines]
    check_words(task, notes[0])
    study = optuna.load_study(study_name="peer", storage=f"sqlite:///{folder}/optuna.db")
    check_points(task, {trial.number: trial.params for trial in study.trials})
    steps = {note["trial"]: note["step"] for note in notes[1:]}
    return Run(
        **spent,
        n_steps=sum(steps.values()),
        states=dict(Counter(trial.state.name for trial in study.trials)),
        curve=best_so_far([(note["seconds"], note["dev_loss"]) for note in notes[1:]]),
    )


def run_ours(task: Task, seed: int, folder: Path, env: Mapping[str, str]) -> Run:
    """Run mmsearch."""
    folder.mkdir(parents=True)
    words = [MMSEARCH, "run", *task.shared_words(seed), "--workspace", str(folder)]
    words += ["--study", STUDY]
    words += [] if task.steps is None else ["--steps", str(task.steps)]
    if task.points:
        config = folder / "search.toml"
        config.write_text(as_toml(task.points), "utf-8")
        words += ["--config", str(config)]
    began = time.time()
    spent = timed(words, env, folder / "output.txt")
    records = Journal(folder / STUDY).records()
    check_points(task, {record.number: record.spec.to_json() for record in records})
    segments = [segment for record in records for segment in record.curve]
    return Run(
        **spent,
        n_steps=sum(record.curve[-1].step for record in records if record.curve),
        states=dict(Counter(record.state for record in records)),
        curve=best_so_far([(line.ended_ms / 1000 - began, line.dev_loss) for line in segments]),
    )


def as_toml(points: Sequence[Point]) -> str:
    """Give mmsearch's config file for points to be trained as they are."""
    tables = [
        f'[training]\nrecipe = "article"\nsegments = {N_SEGMENTS}\nbatch_size = {BATCH_SIZE}\n'
    ]
    for point in points:
        rows = (f"{name} = {value!r}\n" for name, value in point.items())
        tables.append("[[enqueue]]\n" + "".join(rows))
    return "\n".join(tables)


def check_words(task: Task, note: Mapping[str, Any]) -> None:
    """Stop where the peer does not score on mmsearch's dev words."""
    split = split_corpus(read_corpus(task.corpus, keep_duplicates=task.keep_duplicates))
    dev_sha256 = hashlib.sha256("\n".join(split.dev).encode()).hexdigest()
    if (note["n_train"], note["dev_sha256"]) != (len(split.train), dev_sha256):
        raise SystemExit("the peer's words are not mmsearch's")


def check_points(task: Task, trained: Mapping[int, Mapping[str, Any]]) -> None:
    """Stop where a trial is not the configuration that was enqueued as its number."""
    for number, point in enumerate(task.points):
        found = {name: trained[number][name] for name in point}
        if found != point:
            raise SystemExit(f"trial {number} is {found}, not {point}")


Turn = tuple[Run, Run]
"""The peer's and ours."""


def take_turns(task: Task, repeats: int) -> list[Turn]:
    """Run both, in turn."""
    commands: list[Callable[[Task, int, Path, Mapping[str, str]], Run]] = [run_peer, run_ours]
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        env = {**environment(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        small = Task(
            trials=1,
            steps=100,
            peer_steps=100,
            corpus=task.corpus,
            keep_duplicates=task.keep_duplicates,
        )
        for command in commands:
            command(small, 0, home / "warm" / command.__name__, env)
        turns = []
        for n in range(repeats):
            order = commands if n % 2 == 0 else commands[::-1]
            runs = {}
            for command in order:
                run = command(task, n, home / f"{n}" / command.__name__, env)
                runs[command.__name__] = run
                name = command.__name__.removeprefix("run_")
                print(f"turn {n + 1}, {name}: {run.whole_s:.1f} s, {run.best:.4f}", flush=True)
            turns.append((runs["run_peer"], runs["run_ours"]))
    return turns


def shown(values: Sequence[float], form: str = ".1f", unit: str = "") -> str:
    """Show the median of values and, below it, the lowest and the highest where they differ."""
    found = spread(values)
    low, high = f"{found['low']:{form}}", f"{found['high']:{form}}"
    return f"{found['median']:{form}}{unit}" + (f"\n{low}-{high}" if low != high else "")


def compared(
    what: str,
    values: Sequence[tuple[float, float]],
    form: str = ".1f",
    *,
    reach: float | None = None,
    has_ratio: bool = True,
) -> dict[str, str]:
    """Give a row for the peer's and our values, by turns."""
    theirs, ours = zip(*values, strict=True)
    ratios = [their / own for their, own in values] if has_ratio else []
    return {
        "what": what,
        "plain peer": shown(theirs, form),
        "mmsearch": shown(ours, form),
        "ratio": shown(ratios, unit="x") if ratios else "",
        "reach": f"{reach:g}x" if reach else "",
    }


def states_row(turns: Sequence[Turn]) -> dict[str, str]:
    """Say how the trials of all turns ended."""
    totals = [sum((Counter(turn[which].states) for turn in turns), Counter()) for which in (0, 1)]
    names = ("COMPLETE", "PRUNED", "FAIL")
    theirs, ours = ("/".join(str(total[name]) for name in names) for total in totals)
    return {
        "what": "complete/pruned/failed",
        "plain peer": theirs,
        "mmsearch": ours,
        "ratio": "",
        "reach": "",
    }


def common_rows(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Give the rows of both tables that explain the others."""

    def each(get: Callable[[Run], float]) -> list[tuple[float, float]]:
        return [(get(peer), get(ours)) for peer, ours in turns]

    return [
        compared("lowest dev loss, in the end", each(lambda run: run.best), ".4f", has_ratio=False),
        compared("processor seconds", each(lambda run: run.processor_s)),
        compared("steps trained", each(lambda run: run.n_steps), ",.0f"),
        states_row(turns),
        compared("neighbours, cores", each(lambda run: run.neighbours), ".2f", has_ratio=False),
    ]


def reached(turns: Sequence[Turn], mark: float) -> dict[str, str]:
    """Give the row of one mark; what is only known from below is shown as such."""
    lower: list[tuple[float, float, float]] = []
    upper: list[tuple[float, float, float]] = []
    for peer, ours in turns:
        true = peer.first_at(mark), ours.first_at(mark)
        known = min(true[0], peer.whole_s), min(true[1], ours.whole_s)
        lower.append((*known, known[0] / true[1]))
        upper.append((*true, true[0] / known[1]))
    cells = [
        "≥ " * (statistics.median(low) < statistics.median(high)) + shown(low, unit=unit)
        for low, high, unit in zip(
            zip(*lower, strict=True), zip(*upper, strict=True), ("", "", "x"), strict=True
        )
    ]
    if any(math.isinf(ours.first_at(mark)) for _, ours in turns):
        cells[2] = ""  # nothing bounds it from below
    reach = REACH_FREE.get(mark)
    return {
        "what": f"seconds to {mark:.2f}",
        "plain peer": cells[0],
        "mmsearch": cells[1],
        "ratio": cells[2],
        "reach": f"{reach:g}x" if reach else "",
    }


def same(task: Task, repeats: int, note: str) -> None:
    """Compare the same trials."""
    turns = take_turns(task, repeats)
    whole = [(peer.whole_s, ours.whole_s) for peer, ours in turns]
    rows = [compared("seconds, start to end", whole, reach=REACH_SAME), *common_rows(turns)]
    title = f"the same {task.trials} trials of {task.peer_steps:,} steps, {note}{warning(turns)}"
    report("search-same", title, rows, figures(task, turns))


def free(task: Task, repeats: int, note: str) -> None:
    """Compare free searches."""
    turns = take_turns(task, repeats)
    ends = [min(peer.whole_s, ours.whole_s) for peer, ours in turns]
    equal = [
        (peer.best_at(end), ours.best_at(end))
        for (peer, ours), end in zip(turns, ends, strict=True)
    ]
    rows = [
        *(reached(turns, mark) for mark in MARKS),
        compared(
            f"lowest dev loss, at {statistics.median(ends):.0f} s", equal, ".4f", has_ratio=False
        ),
        compared("seconds, start to end", [(peer.whole_s, ours.whole_s) for peer, ours in turns]),
        *common_rows(turns),
    ]
    ours = "its default" if task.steps is None else f"{task.steps:,}"
    title = (
        f"{task.trials} trials of {task.peer_steps:,} steps (peer) and of {ours} (mmsearch), {note}"
        f"{warning(turns)}"
    )
    report("search-free", title, rows, figures(task, turns))


def warning(turns: Sequence[Turn]) -> str:
    """Say where neighbours had the machine."""
    most = max(run.neighbours for turn in turns for run in turn)
    if most <= IDLE_CORES:
        return ""
    return f"\nnot idle: neighbours had up to {most:.2f} cores; repeat it, or see --peer-threads"


def figures(task: Task, turns: Sequence[Turn]) -> dict[str, Any]:
    """Give what goes into the JSON file."""
    return {
        "task": {**asdict(task), "corpus": task.corpus.name},
        "marks": MARKS,
        "turns": [{"peer": asdict(peer), "mmsearch": asdict(ours)} for peer, ours in turns],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--same", action="store_true", help="the same trials in both")
    kind.add_argument("--free", action="store_true", help="each searches as it comes")
    parser.add_argument("--trials", type=int, help="30 of the same, 50 of a free search")
    parser.add_argument("--steps", type=int, help="of each trial; a multiple of 20")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=BUILTIN_CORPUS, help="one word a line")
    parser.add_argument("--keep-duplicates", action="store_true", help="the article's protocol")
    parser.add_argument("--seed", type=int, default=0, help="of the same configurations")
    parser.add_argument("--deadline", type=float, help="seconds after which a free peer stops")
    parser.add_argument("--keep-data", action="store_true", help="as in peer.py")
    parser.add_argument("--peer-threads", type=int, default=0, help="--threads of peer.py")
    arguments = parser.parse_args()
    n_trials = arguments.trials or (30 if arguments.same else 50)
    steps = arguments.steps or (10_000 if arguments.same else None)
    peer_words = ["--threads", str(arguments.peer_threads)]
    peer_words += ["--keep-data"] if arguments.keep_data else []
    if arguments.free and arguments.deadline is not None:
        peer_words += ["--deadline", str(arguments.deadline)]
    task = Task(
        trials=n_trials,
        steps=steps,
        peer_steps=steps or PEER_STEPS,
        corpus=arguments.corpus,
        keep_duplicates=arguments.keep_duplicates,
        points=draw(n_trials, arguments.seed) if arguments.same else (),
        peer_words=peer_words,
    )
    note = f"{arguments.repeats} turns; peer.py {' '.join(peer_words)}"
    (same if arguments.same else free)(task, arguments.repeats, note)


if __name__ == "__main__":
    main()
