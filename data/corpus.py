"""The corpus: words read from a file, cleaned, counted and fingerprinted."""

from __future__ import annotations

import hashlib
import re
import shlex
import stat
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.data.encodings import other_encodings
from mmsearch.data.tables import read_column, table_delimiter
from mmsearch.errors import InputError, quoted

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

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

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip file or a spreadsheet"}
"""The first bytes of files that are no text, and what they are."""
_READ_COLUMN = "it looks like a table: read one of its columns with --column"


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
                f"got {quoted(''.join(self.characters))}; build it with Vocabulary.of(words)"
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
        f"character {character!r} (U+{ord(character):04X}) of {quoted(word)} is not in the "
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
    cells, reads_heading = read_column(path, lines, column) if column else (lines, False)
    if lower:
        cells = [lowered(cell) for cell in cells]
    words = [word for cell in cells if (word := cell.strip())]
    _check_characters(path, words, cells, boundary)
    corpus = Corpus.of(words, name=path.stem, keep_duplicates=keep_duplicates, boundary=boundary)
    n_distinct = corpus.n_lines - corpus.n_repeats
    if n_distinct < MIN_DISTINCT_WORDS:
        msg = (
            f"corpus {quoted(path)} needs at least {MIN_DISTINCT_WORDS} distinct words, "
            f"got {n_distinct}; put more words into it, one a line"
        )
        raise InputError(msg)
    return replace(corpus, reads_heading=reads_heading)


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.read_bytes()
    except FileNotFoundError:
        msg = f"no corpus {quoted(path)}; name a file with one word per line"
        raise InputError(msg) from None
    except PermissionError:
        msg = f"corpus {quoted(path)} must be readable, got permission denied; see chmod +r"
        raise InputError(msg) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"corpus {quoted(path)} must be readable, got {reason!r}; name another file"
        raise InputError(msg) from None
    kind = "a directory" if stat.S_ISDIR(mode) else "a pipe, socket or device"
    msg = f"corpus {quoted(path)} must be a file, got {kind}; name a file with one word per line"
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
                f"corpus {quoted(path)}: must be UTF-8 text, and it looks like {kind}; unpack it, "
                "or save the sheet as CSV in UTF-8"
            )
            raise InputError(msg)
    encodings = other_encodings(data)
    step = "save it as UTF-8, one word per line"
    if encodings:
        shown = " or ".join(
            f"{name} ({quoted(word)})" if word else name for name, word in encodings.items()
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
            f"corpus {quoted(path)}, line {line}: must be UTF-8 text, "
            f"got byte 0x{error.object[error.start]:02x}; {step}"
        )
        raise InputError(msg) from None
    if encodings:
        raise InputError(f"corpus {quoted(path)}: must be UTF-8 text; {step}")
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
        where = f"corpus {quoted(path)}, line {number}"
        if found := _FORBIDDEN.search(word):
            step = "save it as plain text, one word per line, with line ends LF or CRLF"
            msg = (
                f"{where}: a word must not contain control characters, got "
                f"U+{ord(found[0]):04X} in {quoted(word)}; {_READ_COLUMN if table else step}"
            )
            raise InputError(msg)
        if boundary in word:
            n_lines = sum(boundary in word for word in words)
            step = "name a character that is in no word with --boundary"
            msg = (
                f"{where}: a word must not contain {boundary!r}, which marks the word boundary, "
                f"got {quoted(word)} (lines with one: {n_lines:,} of {len(words):,}); "
                f"{_READ_COLUMN if table else step}"
            )
            raise InputError(msg)
