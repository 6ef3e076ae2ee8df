"""What commands print: tables, results, and the next command to type."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mmsearch.errors import MMSearchError
from mmsearch.search.display.format import duration, spec_words
from mmsearch.search.display.tables import TableColumn, fitted_table, spec_columns
from mmsearch.search.results.advice import search_advice
from mmsearch.search.results.optimism import Optimism
from mmsearch.search.study.urls import ledger_folder
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.hyperparameters import shown_columns
from mmsearch.tracking.journal.records import TrialState, best_trial, counts_by_state, n_finished
from mmsearch.tracking.ledger.record import LocalLooks, look_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mmsearch.data.corpus import Corpus
    from mmsearch.data.split import Split
    from mmsearch.search.execution.coordinator import SearchResult
    from mmsearch.search.results.advice import Advice
    from mmsearch.search.study.session import Session
    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.ledger.record import Look

_MAX_SHOWN = 60


def console(*, stderr: bool = False) -> Console:
    """Make a console that prints text as it is: no markup, no guessed colours, no hard wraps."""
    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)


def cut(text: str) -> str:
    """Shorten a text to what fits a line."""
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + " ..."


def trial_json(record: TrialRecord) -> dict[str, Any]:
    """Give one trial as JSON values."""
    scored = record.scored
    parts = scored.dev_parts if scored else {}
    return {
        "trial": record.number,
        "state": record.state,
        "reason": record.outcome.reason if record.outcome else "",
        "dev_loss": record.dev_loss,
        "train_loss": scored.train_loss if scored else None,
        "dev_loss_in_train": parts.get("in_train"),
        "dev_loss_not_in_train": parts.get("not_in_train"),
        "scored_step": scored.step if scored else None,
        "best_dev_loss": record.best.dev_loss if record.best else None,
        "best_step": record.best.step if record.best else None,
        "step": record.curve[-1].step if record.curve else 0,
        "n_parameters": record.facts["n_parameters"],
        "wall_s": round(record.wall_s, 3),
        "spec": record.spec.to_json(),
    }


def print_error(error: MMSearchError) -> None:
    """Print an error: one line for a log; on a terminal wrapped at words, the command whole.

    What is to be typed next stands at the end of a message, after a colon; broken over two lines
    it could not be copied.
    """
    err, message = console(stderr=True), f"error: {error}"
    if err.is_terminal:
        text, colon, command = message.rpartition(": mmsearch ")
        if not colon:
            text, command = message, ""
        lines = textwrap.wrap(
            text + colon[:1], err.width, break_long_words=False, break_on_hyphens=False
        )
        if command:
            lines.append(f"  mmsearch {command}")
        message = "\n".join(lines)
    err.print(message, style="red")


def emit(value: object, *, indent: int | None = 2) -> None:
    """Print a result as strict JSON, in ASCII: any terminal and any reader takes it.

    Args:
        value: the result.
        indent: None for one line.
    """
    sys.stdout.write(json.dumps(_finite(value), indent=indent, allow_nan=False) + "\n")
    sys.stdout.flush()


def _finite(value: object) -> object:
    """Put null where a number is not finite, which JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def search_json(
    session: Session, result: SearchResult, n_trials: int, wall_s: float
) -> dict[str, Any]:
    """Give what came of a search as JSON values."""
    records = result.records
    advice = search_advice(session.journal, records, session.file.settings.space)
    counts = counts_by_state(records)
    best = best_trial(records)
    return {
        "study": session.journal.name,
        "n_trials": n_trials,
        "n_finished": result.n_finished,
        "is_interrupted": result.is_interrupted,
        "n_complete": counts[TrialState.COMPLETE],
        "n_pruned": counts[TrialState.PRUNED],
        "n_failed": counts[TrialState.FAIL],
        "wall_s": round(wall_s, 3),
        "best": None if best is None else trial_json(best),
        **advice.to_json(),
        "optimism": dataclasses.asdict(Optimism.of(records)),
    }


def trials_table(records: Sequence[TrialRecord], *, is_running: bool) -> Table:
    """Lay trials out in at most 80 columns.

    Args:
        records: one a row.
        is_running: whether the study is being searched; else a trial that has not ended is
            stopped, until the next run.
    """
    specs = [record.spec for record in records]
    columns = [
        TableColumn(heading="trial", cells=[str(record.number) for record in records]),
        TableColumn(
            heading="state",
            cells=[
                "stopped" if r.outcome is None and not is_running else r.state.lower()
                for r in records
            ],
            is_left=True,
        ),
        TableColumn(
            heading="dev loss",
            cells=["" if r.dev_loss is None else f"{r.dev_loss:.4f}" for r in records],
        ),
        *spec_columns(shown_columns(specs), specs),
        TableColumn(
            heading="params", cells=[f"{r.facts['n_parameters']:,}" for r in records], rank=1
        ),
        TableColumn(heading="time", cells=[_seconds(record.wall_s) for record in records]),
    ]
    return fitted_table(columns, [None if r.is_complete else "dim" for r in records])


def _seconds(wall_s: float) -> str:
    return f"{wall_s:.1f} s" if wall_s < 99.95 else f"{wall_s:.0f} s"  # noqa: PLR2004 (three digits)


def corpus_json(corpus: Corpus, split: Split, looks: Sequence[Look]) -> dict[str, Any]:
    """Give what is known of a corpus and its split as JSON values; no test word is among them."""
    return {
        "corpus": corpus.name,
        "lines": corpus.n_lines,
        "repeats": corpus.n_repeats,
        "repeats_kept": corpus.keep_duplicates,
        "words": len(corpus.words),
        "train": len(split.train),
        "dev": len(split.dev),
        "test": len(split.test),
        "dev_words_in_train": split.n_dev_in_train,
        "test_words_in_train": split.n_test_in_train,
        "vocabulary": "".join(corpus.vocabulary.characters),
        "fingerprint": corpus.fingerprint,
        "split_fingerprint": split.fingerprint,
        "looks": len(looks),
    }


def print_corpus(out: Console, corpus: Corpus, split: Split, looks: Sequence[Look]) -> None:
    """Say what is known of a corpus, its split and the looks at its test words."""
    facts = corpus_json(corpus, split, looks)
    seal = "spent" if looks else "no look known here"
    kept = "kept" if corpus.keep_duplicates else "dropped"
    leaks = f"{facts['dev_words_in_train']} dev and {facts['test_words_in_train']} test words"
    for name, value in {
        "corpus": f"{corpus.name}: {facts['lines']:,} lines, {facts['repeats']:,} repeats {kept}",
        "words": f"{facts['words']:,}",
        "split": f"{facts['train']:,} train, {facts['dev']:,} dev, {facts['test']:,} test",
        "leaks": f"{leaks} also stand in train",
        "vocabulary": f"{corpus.vocabulary.size} characters: {cut(facts['vocabulary'])}",
        "fingerprint": facts["fingerprint"][:16],
        "test split": f"{facts['split_fingerprint'][:16]}, {seal}",
    }.items():
        out.print(f"{name:<12} {value}")
    print_looks(out, looks)


def known_looks(out: Console, split: str) -> list[Look]:
    """Read the user's own ledger; what is wrong with it is said, and stops nothing on dev."""
    try:
        return LocalLooks(ledger_folder()).read(split)
    except MMSearchError as error:
        out.print(str(error), style="yellow")
        return []


def print_looks(out: Console, looks: Sequence[Look]) -> None:
    """List the looks at a test split."""
    for look in looks:
        print_indented(out, f"{look}: {look_words(look)}", style="yellow")


def print_baselines(out: Console, advice: Advice) -> None:
    """Print what dev losses are held against, where that is known, in at most 80 columns."""
    if advice.baselines is not None:
        out.print(f"baselines: {advice.baselines}")


def print_warnings(out: Console, advice: Advice) -> None:
    """Print each warning, wrapped to the width that there is."""
    for warning in advice.warnings:
        lines = textwrap.wrap(
            f"warning: {warning}",
            out.width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        out.print("\n".join(lines), style="yellow")


def print_indented(out: Console, text: str, style: str | None = None) -> None:
    """Print a text below a heading, wrapped to the width that there is."""
    lines = textwrap.fill(text, out.width, initial_indent="  ", subsequent_indent="  ")
    out.print(lines, style=style)


def print_start(
    out: Console,
    session: Session,
    earlier: Sequence[TrialRecord],
    n_trials: int,
    looks: Sequence[Look],
) -> None:
    """Say what is about to be searched, and what of it is there or spent already."""
    file, corpus = session.file, session.corpus
    kept = "kept" if corpus.keep_duplicates else "dropped"
    sizes = ", ".join(f"{count:,} {part}" for part, count in file.n_words.items())
    n_earlier = n_finished(earlier)
    out.print(f"study {session.journal.name!r} in {_near(session.workspace.root)}")
    out.print(f"  {corpus.name}: {sizes} words; {corpus.n_repeats:,} repeats {kept}")
    if session.split.n_dev_in_train:
        out.print(f"  {session.split.n_dev_in_train:,} dev words also stand in train")
    if looks:
        out.print("  the test split of these words is spent:", style="yellow")
        print_looks(out, looks)
    for name, dimension in file.settings.space.dimensions.items():
        if not dimension.is_fixed or str(dimension) != "0":
            out.print(f"  {name:<14} {dimension}")
    if 0 < n_earlier < n_trials:
        out.print(f"  {n_earlier} of {n_trials} trials are there already")


def print_end(  # noqa: PLR0913 (what a search came to)
    out: Console,
    session: Session,
    result: SearchResult,
    n_trials: int,
    wall_s: float,
    *,
    is_quiet: bool,
) -> None:
    """Say what came of a search and, if it may be said, what to type next."""
    records = result.records
    counts = counts_by_state(records)
    ended = (
        f"{counts[TrialState.COMPLETE]} complete, {counts[TrialState.PRUNED]} pruned, "
        f"{counts[TrialState.FAIL]} failed"
    )
    if result.n_begun == 0 and result.n_finished >= n_trials:
        out.print(
            f"study {session.journal.name!r} has its {n_trials} trials already ({ended}); "
            f"--trials {result.n_finished + 10} adds ten"
        )
    else:
        out.print(f"{result.n_finished} of {n_trials} trials ({ended}) in {duration(wall_s)}")
    best = best_trial(records)
    if best is None:
        out.print("no trial is complete yet")
    else:
        out.print(
            f"best: trial {best.number}, dev loss {best.dev_loss:.4f} nats per character",
            style="bold green",
        )
        out.print(f"  {spec_words(best.spec)}")
        if optimism := str(Optimism.of(records)):
            print_indented(out, optimism)
    advice = search_advice(session.journal, records, session.file.settings.space)
    print_baselines(out, advice)
    if is_quiet:
        return
    print_warnings(out, advice)
    here = options_of(session.journal)
    if result.n_finished < n_trials:
        out.print(f"go on:    mmsearch run --trials {n_trials}{here}")
    if best is not None:
        out.print(f"compare:  mmsearch ui{here}")
        out.print(f"confirm:  mmsearch confirm{here}")
        out.print(f"listen:   mmsearch sample{here}")


def _near(path: Path) -> Path:
    """Name a path from the current folder, where it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
