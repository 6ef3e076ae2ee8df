"""The corpus: words read from a file, cleaned, counted and fingerprinted."""

from __future__ import annotations

import csv
import hashlib
import re
import shlex
import stat
import unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.data.encodings import other_encodings
from mmsearch.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

BUILTIN_CORPUS: Path = Path(__file__).with_name("names.txt")
"""The corpus that comes with mmsearch: US first names of 2018; see README.md beside it."""

BOUNDARY = "."
"""Marks the start and end of every word, as id 0, unless another character is named; no word may
contain it."""

MIN_DISTINCT_WORDS = 10
"""Fewest distinct words for which no part of an 80/10/10 split is empty."""

# Characters of binary files, tables and files with foreign line ends: control characters (tab, NUL
# and a lone carriage return among them), line and paragraph separators, and a byte order mark that
# is not at the start (two joined files). A space is allowed, as "mary ann" is a name; so are
# zero-width joiners, which Persian and Indic spelling needs.
_FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")

_MAX_SHOWN = 60
_TABLE = 0.9
"""Share of the lines with a delimiter from which a file is taken for a table."""
_HEAD = 5
"""Lines at the start of a table that may be no rows."""
_NOTE = re.compile(r"\s*sep=.\s*")
_RULER = re.compile(r"[\s|:-]*--[\s|:-]*")
_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip file or a spreadsheet"}
"""The first bytes of files that are no text, and what they are."""
_READ_COLUMN = "it looks like a table: read one of its columns with --column"
_NUMBER = re.compile(r"[+-]?\.?\d(?:[\d.,]*\d)?[.%]?")
_BLANKS = re.compile(" {2,}")
"""Divides the columns of a table that is aligned with blanks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The characters of a model and their ids."""

    characters: tuple[str, ...]
    """Distinct single characters; the index is the id, and id 0 is the boundary."""
    stoi: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """Character to id."""

    def __post_init__(self) -> None:
        """Check the characters, which may come from a file.

        Raises:
            InputError: there is none, or one is repeated or not single.
        """
        stoi = {character: i for i, character in enumerate(self.characters)}
        if not stoi or len(stoi) != self.size or any(len(character) != 1 for character in stoi):
            msg = (
                "a vocabulary holds distinct single characters, "
                f"got {_shown(''.join(self.characters))}; build it with Vocabulary.of(words)"
            )
            raise InputError(msg)
        object.__setattr__(self, "stoi", stoi)

    @classmethod
    def of(cls, words: Iterable[str], boundary: str = BOUNDARY) -> Vocabulary:
        """Collect the characters of words: the boundary first, the rest in code point order."""
        seen = set("".join(words))
        return cls(characters=(boundary, *sorted(seen - {boundary})))

    @property
    def boundary(self) -> str:
        """The character that marks the start and end of a word, id 0."""
        return self.characters[0]

    @property
    def size(self) -> int:
        """Number of ids, the boundary included."""
        return len(self.characters)

    @property
    def itos(self) -> dict[int, str]:
        """Id to character."""
        return dict(enumerate(self.characters))

    def encode(self, word: str) -> list[int]:
        """Return the ids of a word, without boundaries.

        Raises:
            InputError: a character is not in the vocabulary.
        """
        try:
            return [self.stoi[character] for character in word]
        except KeyError as error:
            raise unknown_character(error.args[0], word) from None


def unknown_character(character: str, word: str) -> InputError:
    """Return the error for a character that is not in a vocabulary."""
    return InputError(
        f"character {character!r} (U+{ord(character):04X}) of {_shown(word)} is not in the "
        "vocabulary; use only characters of the corpus that the vocabulary was made from"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """The words of a file, in its order."""

    name: str
    """The file's name without its suffix."""
    # Not in the repr, since a tenth of them is the test split.
    words: tuple[str, ...] = field(repr=False)
    """Words in Unicode form NFC; each once, unless `keep_duplicates`."""
    n_lines: int
    """Number of lines that are not blank."""
    n_repeats: int
    """Number of lines that repeat an earlier one, dropped or kept."""
    keep_duplicates: bool
    """Whether repeated lines are in `words`."""
    vocabulary: Vocabulary = field(repr=False)
    """Characters of all words, test words included, which a model must be able to score."""
    fingerprint: str
    """SHA-256 of the words in order, joined by newlines, in UTF-8; 64 hex digits."""
    reads_heading: bool = False
    """Whether the first word seems to be the heading of a column that was named by its number."""

    @classmethod
    def of(
        cls,
        words: Sequence[str],
        *,
        name: str,
        keep_duplicates: bool = False,
        boundary: str = BOUNDARY,
    ) -> Corpus:
        """Create a corpus from clean words; `read_corpus` reads and cleans a file."""
        distinct = tuple(dict.fromkeys(words))
        kept = tuple(words) if keep_duplicates else distinct
        return cls(
            name=name,
            words=kept,
            n_lines=len(words),
            n_repeats=len(words) - len(distinct),
            keep_duplicates=keep_duplicates,
            vocabulary=Vocabulary.of(distinct, boundary),
            fingerprint=hashlib.sha256("\n".join(kept).encode()).hexdigest(),
        )


def read_corpus(
    path: str | os.PathLike[str],
    *,
    keep_duplicates: bool = False,
    column: str = "",
    lower: bool = False,
    boundary: str = BOUNDARY,
) -> Corpus:
    r"""Read and clean a UTF-8 file with one word per line, or one column of a table.

    Lines end with `\n` or `\r\n`. The other characters at which `str.splitlines` breaks are
    refused inside a line, since they would silently cut a word in two. A byte order mark at the
    start, blank lines and whitespace around a word are ignored. Case is kept: "Will" and "will"
    are two words. Characters are normalized to Unicode form NFC, so that two encodings of "é" are
    not two characters.

    Args:
        path: a regular file; a pipe is refused, because a study reads it more than once.
        keep_duplicates: whether to keep repeated lines, as makemore does; a word may then be in
            more than one part of the split.
        column: the column of a table to read, by its name in the first line, or by its number from
            1 in a table without a header; empty for a list of words. Tabs, commas, semicolons,
            bars or blanks divide the columns, and CSV's quotes are understood.
        lower: whether to lower the case of all words.
        boundary: character that marks the start and end of a word.

    Raises:
        InputError: the file does not exist, cannot be read, is not text, lacks the column, or has
            fewer than `MIN_DISTINCT_WORDS` distinct words, or a word contains the boundary.
    """
    path = Path(path)
    lines = _decode(path, _read_bytes(path)).split("\n")
    cells, reads_heading = _column(path, lines, column) if column else (lines, False)
    if lower:
        cells = [lowered(cell) for cell in cells]
    words = [word for cell in cells if (word := cell.strip())]
    _check_characters(path, words, cells, boundary)
    corpus = Corpus.of(words, name=path.stem, keep_duplicates=keep_duplicates, boundary=boundary)
    n_distinct = corpus.n_lines - corpus.n_repeats
    if n_distinct < MIN_DISTINCT_WORDS:
        msg = (
            f"corpus {_shown(path)} needs at least {MIN_DISTINCT_WORDS} distinct words, "
            f"got {n_distinct}; put more words into it, one a line"
        )
        raise InputError(msg)
    return replace(corpus, reads_heading=reads_heading)


def table_delimiter(lines: Sequence[str]) -> str:
    """Return what divides the columns of nearly every line; empty for a plain list of words.

    One space stands for any blanks in lines that have one word beside numbers, such as its index
    or its counts; two spaces for runs of at least two blanks.
    """
    filled = [line for line in lines if line and not line.isspace()]
    kinds: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("\t", lambda line: "\t" in line),
        # Before the comma, which is in "1,000".
        (" ", lambda line: _is_apart(line) and _is_numbered(line)),
        (",", lambda line: "," in line),
        (";", lambda line: ";" in line),
        ("|", lambda line: "|" in line),
        (" ", _is_numbered),
        ("  ", _is_apart),
    )
    enough = _TABLE * len(filled)
    return next((delimiter for delimiter, has in kinds if sum(map(has, filled)) >= enough), "")


def _is_apart(line: str) -> bool:
    return "  " in line.strip()


def _is_numbered(line: str) -> bool:
    """Return whether blanks divide a line into one word and numbers."""
    fields = line.split()
    if len(fields) == 1:
        return False
    others = [field for field in fields if not _is_number(field)]
    return len(others) == 1 and not set(others[0]) & set(",;|")


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _column(path: Path, lines: Sequence[str], column: str) -> tuple[list[str], bool]:
    """Return the cells of one column of a table, and whether the first seems to be its heading.

    A heading is left out only if the column is named by it: a number gives all lines, for it did so
    for the studies that exist.
    """
    delimiter = table_delimiter(lines)
    if not delimiter:
        msg = (
            f"corpus {_shown(path)} has no column {column!r}: nearly every line of a table has a "
            "tab, a comma, a semicolon, a bar, two blanks or a number; leave --column out for a "
            "list of words"
        )
        raise InputError(msg)
    rows = [_row(path, number, line, delimiter) for number, line in enumerate(lines, start=1)]
    if delimiter == " ":
        rows = _with_whole_words(rows)
    # A spreadsheet's note on its delimiter, and the ruler of a table in Markdown, are no rows.
    for odd in (_NOTE, _RULER):
        first = next((n for n, line in enumerate(lines) if n < _HEAD and odd.fullmatch(line)), None)
        if first is not None:
            rows[first] = []
    start = next((number for number, row in enumerate(rows) if any(row)), 0)
    header, reads_heading = rows[start], False
    if column.isdecimal() and 1 <= int(column) <= len(header):
        index = int(column) - 1
        rest = [row for row in rows[start + 1 :] if any(row)]
        reads_heading = bool(header[index]) and _is_heading(header, rest)
    elif column in header:
        index = header.index(column)
        rows[start] = []
    else:
        msg = (
            f"corpus {_shown(path)} has no column {column!r}; its first line has "
            f"{', '.join(map(_shown, header[:10]))}: name one of them, or a number from 1 to "
            f"{len(header)} if that line is no header"
        )
        raise InputError(msg)
    return [row[index] if index < len(row) else "" for row in rows], reads_heading


def _is_heading(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first line has text above a column of numbers."""
    return any(
        cell
        and not _is_number(cell)
        and sum(index < len(row) and _is_number(row[index]) for row in rows) >= _TABLE * len(rows)
        for index, cell in enumerate(first)
    )


def _row(path: Path, number: int, line: str, delimiter: str) -> list[str]:
    """Return the cells of one line; a quote that is never closed must not swallow the next."""
    if len(delimiter) > 1:
        return _BLANKS.split(line.strip())
    reader = csv.reader(
        [line.strip(" ")], delimiter=delimiter, skipinitialspace=True, strict='"' in line
    )
    try:
        return [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        msg = (
            f"corpus {_shown(path)}, line {number}: cannot be read as a row of a table ({error}), "
            f"got {_shown(line)}; save it as plain CSV"
        )
        raise InputError(msg) from None


def _with_whole_words(rows: Sequence[list[str]]) -> list[list[str]]:
    """Return rows that blanks divide, with a word of several parts in one cell.

    Where the other rows have two cells, as "emma 12" has, "mary ann 12" has two as well.
    """
    n_cells = Counter(len(row) for row in rows if row).most_common(1)[0][0]
    whole = []
    for row in rows:
        joined: list[str] = []
        for is_number, group in groupby(row, _is_number):
            alike = list(group)
            joined += alike if is_number else [" ".join(alike)]
        whole.append(joined if len(row) > n_cells == len(joined) else row)
    return whole


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.read_bytes()
    except FileNotFoundError:
        msg = f"no corpus {_shown(path)}; name a file with one word per line"
        raise InputError(msg) from None
    except PermissionError:
        msg = f"corpus {_shown(path)} must be readable, got permission denied; see chmod +r"
        raise InputError(msg) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"corpus {_shown(path)} must be readable, got {reason!r}; name another file"
        raise InputError(msg) from None
    kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, socket or device"
    msg = f"corpus {_shown(path)} must be a file, got {kind}; name a file with one word per line"
    raise InputError(msg)


def normalized(text: str) -> str:
    """Return a text as the words of a corpus are stored, in Unicode form NFC."""
    return unicodedata.normalize("NFC", text)


def lowered(text: str) -> str:
    """Return a text in lower case, and again in Unicode form NFC, since some letters become two."""
    return normalized(text.lower())


def _decode(path: Path, data: bytes) -> str:
    for start, kind in _PACKED.items():
        if data.startswith(start):
            msg = (
                f"corpus {_shown(path)}: must be UTF-8 text, and it looks like {kind}; unpack it, "
                "or save the sheet as CSV in UTF-8"
            )
            raise InputError(msg)
    encodings = other_encodings(data)
    step = "save it as UTF-8, one word per line"
    if encodings:
        shown = " or ".join(
            f"{name} ({_shown(word)})" if word else name for name, word in encodings.items()
        )
        advice = (
            f"it looks like {shown}; convert it with"
            if len(encodings) == 1
            else f"it may be {shown}; convert it from the one that shows a word of yours, with"
        )
        # Never the file's own name, which the shell would empty before iconv reads it.
        source, made = shlex.quote(str(path)), shlex.quote(f"{path.stem}-utf8{path.suffix}")
        step = f"{advice}: iconv -f {next(iter(encodings))} -t UTF-8 {source} > {made}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = (
            f"corpus {_shown(path)}, line {line}: must be UTF-8 text, "
            f"got byte 0x{error.object[error.start]:02x}; {step}"
        )
        raise InputError(msg) from None
    if encodings:
        raise InputError(f"corpus {_shown(path)}: must be UTF-8 text; {step}")
    return normalized(text)


def _check_characters(
    path: Path, words: Sequence[str], cells: Sequence[str], boundary: str
) -> None:
    # One pass over the whole text; only an invalid file is checked line by line.
    text = "\n".join(words)
    if boundary not in text and not _FORBIDDEN.search(text):
        return
    table = table_delimiter(cells)
    for number, cell in enumerate(cells, start=1):
        word = cell.strip()
        where = f"corpus {_shown(path)}, line {number}"
        if found := _FORBIDDEN.search(word):
            step = "save it as plain text, one word per line, with line ends LF or CRLF"
            msg = (
                f"{where}: a word must not contain control characters, got "
                f"U+{ord(found[0]):04X} in {_shown(word)}; {_READ_COLUMN if table else step}"
            )
            raise InputError(msg)
        if boundary in word:
            n_lines = sum(boundary in word for word in words)
            step = "name a character that is in no word with --boundary"
            msg = (
                f"{where}: a word must not contain {boundary!r}, which marks the word boundary, "
                f"got {_shown(word)} (lines with one: {n_lines:,} of {len(words):,}); "
                f"{_READ_COLUMN if table else step}"
            )
            raise InputError(msg)


def _shown(value: str | Path) -> str:
    # repr escapes newlines and unprintable characters, so this is one line.
    if isinstance(value, Path):
        return repr(str(value))
    return repr(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "…")
