"""`mmsearch corpus`: show what a word list contains and how it is split."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.search.cli import options
from mmsearch.search.display.advice import known_looks, print_looks
from mmsearch.search.display.console import make_console, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.data.corpus import Corpus
    from mmsearch.data.split import Split
    from mmsearch.tracking.ledger.record import Look

_MAX_VOCABULARY = 60
"""Characters of the vocabulary that are printed."""


def corpus(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Text file with one word per line.",
            show_default="built-in names",
        ),
    ] = None,
    *,
    keep_duplicates: options.KeepDuplicates = None,
    split_seed: Annotated[
        int, options.number("Random seed of the 80/10/10 split into train, dev and test.", min=0)
    ] = 42,
    as_json: options.Json = False,
) -> None:
    """Show the size, repeats and split of a word list; test words stay sealed."""
    from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus  # noqa: PLC0415
    from mmsearch.data.split import split_corpus  # noqa: PLC0415

    words = read_corpus(path or BUILTIN_CORPUS, keep_duplicates=bool(keep_duplicates))
    split = split_corpus(words, split_seed)
    looks = known_looks(make_console(stderr=True), split.fingerprint)
    values = _to_json(words, split, looks)
    if as_json:
        print_json(values)
    else:
        _print_corpus(make_console(), values, looks)


def _to_json(corpus: Corpus, split: Split, looks: Sequence[Look]) -> dict[str, Any]:
    return {
        "corpus": corpus.name,
        "lines": corpus.n_lines,
        "repeats": corpus.n_repeats,
        "repeats_kept": corpus.keep_duplicates,
        "words": len(corpus.words),
        "train": len(split.train),
        "dev": len(split.dev),
        "test": len(split.test),
        "contexts": {
            "train": sum(len(word) + 1 for word in split.train),
            "dev": sum(len(word) + 1 for word in split.dev),
            "test": split.test.n_contexts,
        },
        "dev_words_in_train": split.n_dev_in_train,
        "test_words_in_train": split.n_test_in_train,
        "vocabulary": "".join(corpus.vocabulary.characters),
        "fingerprint": corpus.fingerprint,
        "split_fingerprint": split.fingerprint,
        "looks": len(looks),
    }


def _print_corpus(out: Console, values: dict[str, Any], looks: Sequence[Look]) -> None:
    vocabulary = values["vocabulary"]
    shown = vocabulary[:_MAX_VOCABULARY] + (" ..." if len(vocabulary) > _MAX_VOCABULARY else "")
    kept = "kept" if values["repeats_kept"] else "dropped"
    used = "already used" if looks else "not used yet, as far as this machine knows"
    for name, value in {
        "corpus": (
            f"{values['corpus']}: {values['lines']:,} lines, {values['repeats']:,} repeats {kept}"
        ),
        "words": f"{values['words']:,}",
        "split": f"{values['train']:,} train, {values['dev']:,} dev, {values['test']:,} test",
        "contexts": ", ".join(f"{n:,} {part}" for part, n in values["contexts"].items()),
        "leaks": f"{values['dev_words_in_train']} dev and {values['test_words_in_train']} test "
        "words also occur in train",
        "vocabulary": f"{len(vocabulary)} characters: {shown}",
        "fingerprint": values["fingerprint"][:16],
        "test split": f"{values['split_fingerprint'][:16]}, {used}",
    }.items():
        out.print(f"{name:<12} {value}")
    print_looks(out, looks)
