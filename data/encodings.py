"""Which encoding a word list has that is not UTF-8: what its bytes allow, and its words suggest."""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
from itertools import islice, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENCODINGS = (
    *("WINDOWS-1252", "WINDOWS-1250", "ISO-8859-2", "WINDOWS-1254", "MACINTOSH", "CP850"),
    *("WINDOWS-1251", "KOI8-R", "CP866", "WINDOWS-1253"),
    *("SHIFT_JIS", "EUC-JP", "GB18030", "BIG5", "EUC-KR"),
)
"""Other encodings of word lists, the commonest first, by names that iconv and Python know."""
_SIGNS = "\u2018\u2019\u2010\u2013\xb7\xa0"
"""Apostrophes, hyphens, the Catalan middle dot and the no-break space: what words may contain."""
_MAX_ENCODINGS, _MAX_TRIED = 6, 10_000
"""Encodings named, and words looked at to choose them."""
_FEW = 0.1
"""Share of the words that may be odd in the right encoding."""


def other_encodings(data: bytes) -> dict[str, str]:
    """Return the encodings that a file may have, each with a line of it that tells it from others.

    There is none if the file may be UTF-8, or is no text. The line is empty for UTF-16, which
    needs no proof. An encoding that gives the same text as a commoner one is left out.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return {"UTF-16": ""}
    evens, odds = data[0:1000:2].count(0), data[1:1000:2].count(0)
    if max(evens, odds) > len(data[:1000]) // 3 and not min(evens, odds):
        return {"UTF-16BE" if evens else "UTF-16LE": ""}
    with contextlib.suppress(UnicodeDecodeError):
        data.decode()
        return {}
    foreign = [line for line in data.split(b"\n") if not line.isascii()]
    n_good = sum(line.decode(errors="ignore").encode() == line for line in foreign)
    if n_good >= len(foreign) / 2:  # UTF-8 with damage
        return {}
    return _guessed(data)


def _guessed(data: bytes) -> dict[str, str]:
    texts: dict[str, str] = {}
    for encoding in _ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode(encoding).strip().replace("\r\n", "\n").replace("\t", " ")
            if _has_words(text):
                texts.setdefault(text, encoding)
    oddness = {text: _oddness(text) for text in texts}
    # Whoever knows the words chooses among those with about as few odd ones as the best.
    limit = min(min(oddness.values(), default=0) + _FEW, 1 - _FEW)
    likely = [text for text in sorted(texts, key=oddness.__getitem__) if oddness[text] <= limit]
    likely = likely[:_MAX_ENCODINGS]
    lines = zip(*(text.split("\n") for text in likely), strict=False)
    told = next((line for line in lines if _tells(line)), likely)
    return {texts[text]: word for text, word in zip(likely, told, strict=True)}


def _tells(line: Sequence[str]) -> bool:
    """Return whether a line, as each encoding has it, tells the encodings apart."""
    return len(set(line)) == len(line) and not line[0].isascii()


def _has_words(text: str) -> bool:
    """Return whether all characters beyond ASCII are letters, or signs that words contain.

    No character may be a control character, as in a file that is no text.
    """
    return all(
        (character.isprintable() or character == "\n")
        if character.isascii()
        else (character in _SIGNS or unicodedata.category(character)[0] in "LM")
        for character in set(text)
    )


def _oddness(text: str) -> float:
    """Return the share of odd words among those with letters beyond ASCII.

    A word is odd that mixes Latin letters with others, has a capital after a small letter, or is
    Latin with hardly a letter of ASCII: so look words of another encoding.
    """
    found = (match[0] for match in re.finditer(r"[^\W\d_]+", text) if not match[0].isascii())
    words = list(islice(found, _MAX_TRIED))
    return sum(map(_is_odd, words)) / max(len(words), 1)


def _is_odd(word: str) -> bool:
    latin = ["LATIN" in unicodedata.name(letter, "") for letter in word]
    return (
        any(latin) != all(latin)
        or any(a.islower() and b.isupper() for a, b in pairwise(word))
        or (all(latin) and sum(map(str.isascii, word)) <= len(word) // 4)
    )
