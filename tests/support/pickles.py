"""Finds pickles by their opcodes, wherever something is stored: nothing is loaded."""

from __future__ import annotations

import base64
import binascii
import bz2
import contextlib
import gzip
import io
import json
import lzma
import pickletools
import sqlite3
import zipfile
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ENOUGH = 4
"""Opcodes after which a text that has begun like a pickle, and is cut, is taken for one."""
_SHORTEST = 8
"""Bytes that a pickle which does anything has at least."""
_DEPTH = 4
"""Codings within codings that are undone."""
_UNPACK: tuple[Callable[[bytes], bytes], ...] = (
    zlib.decompress,
    gzip.decompress,
    bz2.decompress,
    lzma.decompress,
    lambda content: base64.b64decode(b"".join(content.split()), validate=True),
    lambda content: base64.b64decode(b"".join(content.split()), b"-_", validate=True),
    # Optuna cuts it after 2,045 digits.
    lambda content: bytes.fromhex(content[: len(content) // 2 * 2].decode("ascii")),
)
_NOT_THAT = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, binascii.Error)


def is_pickle(content: bytes) -> bool:
    """Whether bytes are a whole pickle, or the beginning of one as Python writes them today."""
    if len(content) < _SHORTEST:
        return False
    if content[0] == 0x80 and content[1] <= 5:
        return _n_opcodes(content) >= _ENOUGH
    try:
        pickletools.dis(content, out=io.StringIO())  # the stack is minded: text is no pickle
    except Exception:  # noqa: BLE001 (whatever it stumbles over)
        return False
    return True


def _n_opcodes(content: bytes) -> int:
    n_opcodes = 0
    with contextlib.suppress(Exception):  # where it is cut, or is none
        for _ in pickletools.genops(content):
            n_opcodes += 1
    return n_opcodes


def pickles_in(content: bytes, where: str, depth: int = 0) -> Iterator[str]:
    """Find the pickles in bytes, inside zip files, JSON texts and whatever else can be undone."""
    if is_pickle(content):
        yield where
    if depth == _DEPTH or len(content) < _SHORTEST:
        return
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield from pickles_in(archive.read(name), f"{where}!{name}", depth + 1)
    for undo in _UNPACK:
        with contextlib.suppress(*_NOT_THAT):
            inner = undo(content)
            yield from pickles_in(inner, f"{where} (coded)", depth + 1)
    if content[:1] in b'"[{':
        with contextlib.suppress(ValueError, RecursionError):
            for text in _texts(json.loads(content)):
                yield from pickles_in(text.encode(), f"{where} (JSON)", depth + 1)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)


def cells(path: Path) -> Iterator[tuple[str, bytes]]:
    """Give every text and blob of a SQLite database, whatever the table and the column."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            name = table.decode()
            rows = database.execute(f'SELECT * FROM "{name}"')  # noqa: S608 (its own names)
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, bytes):
                        yield f"{path.name}:{name}.{column}", value


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def find_pickles(folder: Path) -> list[str]:
    """Find every pickle under a folder: in files, and in the cells of databases."""
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and is_database(path):
            for where, value in cells(path):
                found += pickles_in(value, where)
        elif path.is_file():
            found += pickles_in(path.read_bytes(), str(path.relative_to(folder)))
    return found
