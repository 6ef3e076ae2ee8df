"""The whole command against the plain peer of `bench/peer.py`, from process start to end.

    python bench/search.py --corpus names.txt --keep-duplicates
    python bench/search.py --trials 3 --steps 1000 --repeats 1     # a quick check

Both train the same configurations, drawn once from the article's space and enqueued, without
pruning, with the same number of steps, dev evaluations and examples a batch. What counts is the
wall time from process start to process end, databases and figures included.

Both score the same words, which is checked. They take turns, with a seed for each turn; ratios are
taken within a turn, and medians are printed with the lowest and the highest. Both have an empty
home and have been started once before; MLflow's telemetry is off. "neighbours" is how many cores
other processes had meanwhile: unless it is near 0, repeat, or give the peer `--peer-threads 1`,
since its torch threads wait for each other. Needs Linux.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import optuna
from report import MMSEARCH, draw_point, environment, report, shown, timed

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.search.study.settings import settle
from mmsearch.tracking.journal.journal import Journal

PEER = Path(__file__).with_name("peer.py")
IDLE_CORES = 0.1
"""Cores that neighbours may have on a machine that counts as idle."""
N_SEGMENTS, BATCH_SIZE, STUDY = 20, 32, "bench"
ROWS = {
    "seconds, start to end": ("whole_s", ".1f"),
    "lowest dev loss": ("dev_loss", ".4f"),
    "processor seconds": ("processor_s", ".1f"),
    "neighbours, cores": ("neighbours", ".2f"),
}
"""Rows of the table: the figure of a run, and its format."""

Points = list[dict[str, float]]


def draw(n_points: int, seed: int) -> Points:
    """Draw configurations from the space of the article's recipe, which is the peer's."""
    chance, settings = random.Random(seed), settle({"recipe": "article"})  # noqa: S311 (no secret)
    searched = [n for n, each in settings.space.dimensions.items() if not each.is_fixed]
    points = [draw_point(settings, chance) for _ in range(n_points)]
    return [{name: point[name] for name in searched} for point in points]


def run_peer(
    words: list[str], points: Points, folder: Path, arguments: argparse.Namespace
) -> dict[str, float]:
    """Run the peer; returns its times and its lowest dev loss."""
    enqueued = folder / "points.json"
    enqueued.write_text(json.dumps(points), "utf-8")
    command = [sys.executable, str(PEER), *words, "--folder", str(folder)]
    command += ["--threads", str(arguments.peer_threads), "--enqueue", str(enqueued)]
    spent = timed(command, environment(folder.parent), folder / "output.txt")
    study = optuna.load_study(study_name="peer", storage=f"sqlite:///{folder}/optuna.db")
    corpus = read_corpus(arguments.corpus, keep_duplicates=arguments.keep_duplicates)
    split = split_corpus(corpus)
    dev_sha256 = hashlib.sha256("\n".join(split.dev).encode()).hexdigest()
    if study.user_attrs != {"n_train": len(split.train), "dev_sha256": dev_sha256}:
        raise SystemExit("the peer's words are not mmsearch's")
    check_points(points, {trial.number: trial.params for trial in study.trials})
    losses = [loss for trial in study.trials for loss in trial.intermediate_values.values()]
    return {**spent, "dev_loss": min(losses)}


def run_ours(
    words: list[str], points: Points, folder: Path, _: argparse.Namespace
) -> dict[str, float]:
    """Run mmsearch; returns its times and its lowest dev loss."""
    lines = ['[training]\nrecipe = "article"', f"segments = {N_SEGMENTS}"]
    lines.append(f"batch_size = {BATCH_SIZE}")
    for point in points:
        lines += ["[[enqueue]]", *(f"{name} = {value!r}" for name, value in point.items())]
    config = folder / "search.toml"
    config.write_text("\n".join(lines) + "\n", "utf-8")
    command = [MMSEARCH, "run", *words, "--trials", str(len(points)), "--pruner", "none"]
    command += ["--workspace", str(folder), "--study", STUDY, "--config", str(config)]
    spent = timed(command, environment(folder.parent), folder / "output.txt")
    records = Journal(folder / STUDY).records()
    check_points(points, {record.number: record.spec.to_json() for record in records})
    return {**spent, "dev_loss": min(line.dev_loss for each in records for line in each.curve)}


def check_points(points: Points, trained: Mapping[int, Mapping[str, object]]) -> None:
    """Stop if a trial is not the configuration that was enqueued for its number."""
    for number, point in enumerate(points):
        found = {name: trained[number][name] for name in point}
        if found != point:
            raise SystemExit(f"trial {number} is {found}, not {point}")


def take_turns(arguments: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    """Run both in turns; the first turn, of one short trial, only warms up."""
    commands = {"plain peer": run_peer, "mmsearch": run_ours}
    points = draw(arguments.trials, arguments.seed)
    turns = []
    with tempfile.TemporaryDirectory() as scratch:
        for n in range(-1, arguments.repeats):
            words = ["--steps", str(arguments.steps if n >= 0 else 100), "--seed", str(max(0, n))]
            words += ["--corpus", str(arguments.corpus)]
            words += ["--keep-duplicates"] if arguments.keep_duplicates else []
            runs = {}
            for name in list(commands)[:: 1 if n % 2 else -1]:
                folder = Path(scratch) / f"{n} {name}"
                folder.mkdir()
                runs[name] = commands[name](
                    words, points if n >= 0 else points[:1], folder, arguments
                )
                print(f"turn {n + 1}, {name}: {runs[name]}", flush=True)
            turns.append({name: runs[name] for name in commands})
    return turns[1:]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--steps", type=int, default=10_000, help="of each trial; 20 divides it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--corpus", type=Path, default=BUILTIN_CORPUS, help="one word per line")
    parser.add_argument("--keep-duplicates", action="store_true", help="the article's protocol")
    parser.add_argument("--seed", type=int, default=0, help="of the configurations")
    parser.add_argument("--peer-threads", type=int, default=0, help="--threads of peer.py")
    arguments = parser.parse_args()
    turns = take_turns(arguments)
    title = f"{arguments.trials} trials of {arguments.steps} steps, {arguments.repeats} turns"
    most = max(run["neighbours"] for turn in turns for run in turn.values())
    if most > IDLE_CORES:
        title += f"\nnot idle: neighbours had up to {most:.2f} cores; repeat, or use --peer-threads"
    rows = []
    for what, (figure, form) in ROWS.items():
        values = {name: [turn[name][figure] for turn in turns] for name in turns[0]}
        ratios = [theirs / ours for theirs, ours in zip(*values.values(), strict=True) if ours]
        is_time = figure.endswith("_s")
        rows.append(
            {"what": what}
            | {name: shown(found, form) for name, found in values.items()}
            | {"ratio": shown(ratios, ".1f") if is_time else ""}
        )
    report(
        "search",
        title,
        rows,
        {"task": vars(arguments) | {"corpus": arguments.corpus.name}, "turns": turns},
    )


if __name__ == "__main__":
    main()
