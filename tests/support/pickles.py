"""Finds pickles by their opcodes wherever something is stored, and loads nothing."""

import base64
import binascii
import contextlib
import gzip
import io
import json
import pickletools
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

_ENOUGH = 4
"""Number of opcodes after which a text that begins like a pickle, and is cut, counts as one."""
_SHORTEST = 8
"""Length in bytes of the shortest pickle that does anything."""
_DEPTH = 4
"""Number of nested encodings that are undone."""
_UNPACK: tuple[Callable[[bytes], bytes], ...] = (
    zlib.decompress,
    gzip.decompress,
    lambda content: base64.b64decode(b"".join(content.split()), validate=True),
    lambda content: base64.b64decode(b"".join(content.split()), b"-_", validate=True),
    # Optuna cuts a long text after 2,045 digits.
    lambda content: bytes.fromhex(content[: len(content) // 2 * 2].decode("ascii")),
)
_FAILED = (zlib.error, EOFError, OSError, ValueError, binascii.Error)


def is_pickle(content: bytes) -> bool:
    """Whether bytes are a whole pickle, or the beginning of one as Python writes them today."""
    if len(content) < _SHORTEST:
        return False
    if content[0] == 0x80 and content[1] <= 5:
        n_opcodes = 0
        with contextlib.suppress(Exception):  # where it is cut, or is not a pickle
            for _ in pickletools.genops(content):
                n_opcodes += 1
        return n_opcodes >= _ENOUGH
    try:
        pickletools.dis(content, out=io.StringIO())  # checks the stack, so plain text fails
    except Exception:  # noqa: BLE001 (pickletools raises many kinds)
        return False
    return True


def pickles_in(content: bytes, where: str, depth: int = 0) -> Iterator[str]:
    """Find pickles in bytes, and inside zip files, JSON texts and other encodings."""
    if is_pickle(content):
        yield where
    if depth == _DEPTH or len(content) < _SHORTEST:
        return
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from pickles_in(archive.read(name), f"{where}!{name}", depth + 1)
    for unpack in _UNPACK:
        with contextlib.suppress(*_FAILED):
            yield from pickles_in(unpack(content), f"{where} (coded)", depth + 1)
    if content[:1] in b'"[{':
        with contextlib.suppress(ValueError, RecursionError):
            for text in _texts(json.loads(content)):
                yield from pickles_in(text.encode(), f"{where} (JSON)", depth + 1)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _cells(path: Path) -> Iterator[bytes]:
    """Read every text and blob of a SQLite database."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table.decode()}"'):  # noqa: S608 (its own names)
                yield from (value for value in row if isinstance(value, bytes))


def find_pickles(folder: Path) -> list[str]:
    """Name every pickle under a folder: in files, and in the cells of databases."""
    found: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        contents = _cells(path) if content.startswith(b"SQLite format 3\0") else [content]
        for each in contents:
            found += pickles_in(each, str(path.relative_to(folder)))
    return found
