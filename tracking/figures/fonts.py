"""Which font draws a character: matplotlib's own, else an installed one.

Fonts are searched once a process for each character, in an order that follows from their files'
names, so that every worker on a machine draws the same. matplotlib's list of fonts is not asked: it
is as old as its cache, and a font that has been installed since is not in it.
"""

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

OWN: Final = "DejaVu Sans"
"""Ships with matplotlib: the same figure on every machine, as far as it has the characters."""
_CIRCLE: Final = "\u25cc"
"""Stands for the letter that a combining mark belongs to."""
_UNLIKE_TEXT: Final = (
    *("bold", "black", "heavy", "light", "thin", "medium", "italic", "oblique", "condensed"),
    *("mono", "serif", "display", "looped", "nastaliq", "kufi"),
)
"""Parts of names of fonts that are taken only where no other has a character."""
_PLACEHOLDERS: Final = ("lastresort", "adobeblank")
"""Fonts that draw a box for each character."""
_CJK: Final = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC")
_INVISIBLE: Final = ("VARIATION SELECTOR", "FILLER", "JOINER", "BRAILLE PATTERN BLANK")
_UNASSIGNED: Final = ("Co", "Cn")

_families: dict[str, str] = {}
"""The font of each character that has been searched, "" where no font has it."""
_circled: set[str] = set()
"""The fonts in `_families` that also have a dotted circle."""


def drawable(text: str) -> str:
    """Return a text with each character that no font has replaced by its code point."""
    _search(text)
    return "".join(c if _families[c] else f"U+{ord(c):04X}" for c in text)


def families(text: str) -> list[str]:
    """Return the fonts that draw a text, matplotlib's own first."""
    _search(text)
    return [OWN, *sorted({_families[c] for c in text} - {OWN, ""})]


def label(character: str) -> tuple[str, list[str]]:
    """Return what stands for one character, and the fonts that draw it, the first choice first.

    A space is drawn as an open box, and a combining mark on a dotted circle if its font has one.
    """
    text = drawable("␣" if character == " " else character)
    if text == character and unicodedata.category(character).startswith("M"):
        # matplotlib draws both with one font, or neither.
        family = _families[character]
        return _CIRCLE + text if family in _circled else text, [family, OWN]
    return text, families(text)


def advice(characters: Iterable[str]) -> str:
    """Return a line that says how to install fonts for characters that have none, or ""."""
    characters = set(characters)
    _search(characters)
    packages = Counter(map(_package, (c for c in characters if not _families[c])))
    del packages[""]
    if not packages:
        return ""
    n = packages.total()
    names = ", ".join(sorted(name for name, _ in packages.most_common(2)))
    return f"{n:,} character{' lacks' if n == 1 else 's lack'} a font; try {names} (Debian)"


def _package(character: str) -> str:
    """Return Debian's package of fonts that is most likely to have a character, "" if none has."""
    name, category = unicodedata.name(character, ""), unicodedata.category(character)
    is_invisible = not character.isprintable() or any(word in name for word in _INVISIBLE)
    if is_invisible or category in _UNASSIGNED:
        return ""
    if name.startswith(_CJK):
        return "fonts-noto-cjk"
    return "fonts-symbola" if category.startswith("S") else "fonts-noto-core"


def _search(characters: Iterable[str]) -> None:
    """Find the fonts of characters that have not been searched yet."""
    new = {c for c in characters if c not in _families}
    left = {c for c in new if c.isprintable()}
    for path in _paths():
        if not left:
            break
        drawn = _drawn(path, left | {_CIRCLE})
        if drawn & left:
            family = _register(path)
            _families.update(dict.fromkeys(drawn & left, family))
            _circled.update({family} if _CIRCLE in drawn else ())
            left -= drawn
    for character in new:
        _families.setdefault(character, "")


def _paths() -> Iterator[str]:
    yield _own()
    yield from _installed()


@cache
def _own() -> str:
    return str(font_manager.findfont(OWN))


@cache
def _installed() -> list[str]:
    """Return the paths of the installed fonts, those for plain text first."""

    def rank(path: str) -> tuple[int, str, str]:
        name = Path(path).stem.lower()
        return sum(part in name for part in _UNLIKE_TEXT), name, path

    paths = (path for path in font_manager.findSystemFonts() if not _is_placeholder(path))
    return sorted(paths, key=rank)


def _is_placeholder(path: str) -> bool:
    return any(part in Path(path).stem.lower() for part in _PLACEHOLDERS)


def _drawn(path: str, characters: Iterable[str]) -> set[str]:
    """Return those characters that a font has an outline for; none if it cannot be read."""
    with contextlib.suppress(OSError, RuntimeError), Path(path).open("rb") as file:
        font = FT2Font(file)
        return {
            c
            for c in characters
            if font.get_char_index(ord(c))
            # Fonts of coloured pictures have empty outlines.
            and (c == " " or any(font.load_char(ord(c)).bbox))
        }
    return set()


@cache
def _register(path: str) -> str:
    """Make a font known to matplotlib by a family of its own; return that."""
    if path == _own():
        return OWN
    # Families of fonts have several files, of which matplotlib takes one by the order of a list.
    family = f"mmsearch {path}"
    font_manager.fontManager.ttflist.append(font_manager.FontEntry(fname=path, name=family))
    return family
