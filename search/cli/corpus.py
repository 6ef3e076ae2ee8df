"""`mmsearch corpus`: show what a word list contains and how it is split."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from pathlib import Path  # noqa: TC003 (typer reads it)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.counts import counted
from mmsearch.data.tables import table_delimiter
from mmsearch.errors import InputError
from mmsearch.search.cli import options
from mmsearch.search.display.advice import known_looks, print_looks, print_table_warnings
from mmsearch.search.display.console import make_console, print_json, print_wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mmsearch.data.corpus import Corpus
    from mmsearch.data.split import Split
    from mmsearch.tracking.ledger.record import Look

_MAX_VOCABULARY = 60
"""Characters of the vocabulary that are printed."""
_MAX_LISTED, _N_EXAMPLES = 12, 5
"""Characters listed one by one, and train words shown."""
_RARE = 5
"""Characters that occur less often in train are hardly learned."""


def corpus(  # noqa: PLR0913 (each is one flag)
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Text file with one word per line.",
            show_default="built-in names",
        ),
    ] = None,
    *,
    corpus: options.Corpus = None,
    keep_duplicates: options.KeepDuplicates = None,
    column: options.Column = None,
    lower: options.Lower = None,
    boundary: options.Boundary = None,
    split_seed: Annotated[
        int, options.number("Random seed of the 80/10/10 split into train, dev and test.", min=0)
    ] = 42,
    as_json: options.Json = False,
) -> None:
    """Show the size, repeats and split of a word list; test words stay sealed."""
    from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus  # noqa: PLC0415
    from mmsearch.data.split import split_corpus  # noqa: PLC0415
    from mmsearch.search.study.settings import settle  # noqa: PLC0415

    if path is not None and corpus is not None:
        raise InputError("give the file once, with --corpus or without")
    settings = settle(
        options.given(
            keep_duplicates=keep_duplicates, column=column, lower=lower, boundary=boundary
        )
    )
    words = read_corpus(path or corpus or BUILTIN_CORPUS, **settings.reading)
    split = split_corpus(words, split_seed)
    looks = known_looks(make_console(stderr=True), split.fingerprint)
    values = _to_json(words, split, looks)
    if as_json:
        print_json(values)
    else:
        _print_corpus(make_console(), values, looks)


def _to_json(corpus: Corpus, split: Split, looks: Sequence[Look]) -> dict[str, Any]:
    lengths = [len(word) for word in split.train]
    counts = Counter("".join(split.train))
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
        "lengths": {
            "shortest": min(lengths),
            "median": statistics.median_low(lengths),
            "longest": max(lengths),
        },
        "examples": list(split.train[:_N_EXAMPLES]),
        "table_delimiter": table_delimiter(corpus.words),
        "reads_heading": corpus.reads_heading,
        "vocabulary": "".join(corpus.vocabulary.characters),
        "rare": {
            character: counts[character]
            for character in corpus.vocabulary.characters[1:]
            if counts[character] < _RARE
        },
        "fingerprint": corpus.fingerprint,
        "split_fingerprint": split.fingerprint,
        "looks": len(looks),
    }


def _print_corpus(out: Console, values: dict[str, Any], looks: Sequence[Look]) -> None:
    vocabulary, lengths = values["vocabulary"], values["lengths"]
    clear = "".join(filter(_is_clear, vocabulary))
    shown = clear[:_MAX_VOCABULARY] + (" ..." if len(clear) > _MAX_VOCABULARY else "")
    unclear = [_named(character) for character in vocabulary if not _is_clear(character)]
    rare = [f"{_named(character)} {count}" for character, count in values["rare"].items()]
    kept = "kept" if values["repeats_kept"] else "dropped"
    used = "already used" if looks else "not used yet, as far as this machine knows"
    for name, value in {
        "corpus": (
            f"{values['corpus']}: {counted(values['lines'], 'line')}, "
            f"{counted(values['repeats'], 'repeat')} {kept}"
        ),
        "words": f"{values['words']:,}",
        "split": f"{values['train']:,} train, {values['dev']:,} dev, {values['test']:,} test",
        "contexts": ", ".join(f"{n:,} {part}" for part, n in values["contexts"].items()),
        "leaks": f"{values['dev_words_in_train']} dev and {values['test_words_in_train']} test "
        "words also occur in train",
        "lengths": f"{lengths['shortest']} to {lengths['longest']} characters in train, median "
        f"{lengths['median']}",
        "examples": ", ".join(map(_escaped, values["examples"])),
        "vocabulary": f"{counted(len(vocabulary), 'character')}: {shown}",
        "invisible": _listed(unclear),
        "rare": rare and f"fewer than {_RARE} times in train: {_listed(rare)}",
        "fingerprint": values["fingerprint"][:16],
        "test split": f"{values['split_fingerprint'][:16]}, {used}",
    }.items():
        if value:
            print_wrapped(out, f"{name:<12} {value}", indent=" " * 13)
    print_looks(out, looks)
    print_table_warnings(out, values["table_delimiter"], reads_heading=values["reads_heading"])


def _is_clear(character: str) -> bool:
    """Return whether a character can be seen by itself: no space, mark or control."""
    return unicodedata.category(character)[0] in "LNPS"


def _named(character: str) -> str:
    return character if _is_clear(character) else f"U+{ord(character):04X}"


def _escaped(word: str) -> str:
    """Return a word with the code points of what cannot be seen; marks stay on their letters."""
    return "".join(
        c if _is_clear(c) or unicodedata.category(c)[0] == "M" or c == " " else f"<{_named(c)}>"
        for c in word
    )


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return ", ".join(items[:_MAX_LISTED]) + more
