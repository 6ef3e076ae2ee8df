"""A page of Markdown and pictures as one HTML file, which needs no network and no other file."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from mmsearch.tracking.journal import files
from mmsearch.tracking.mlflow import notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem;
        display: block; overflow-x: auto; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { white-space: normal; vertical-align: bottom; }
img { max-width: min(100%, 37rem); height: auto; }
code, pre { font: 0.9em ui-monospace, monospace; background: #f4f4f4; }
pre { padding: 0.7rem; overflow-x: auto; }
"""


def picture(path: Path, text: str) -> str:
    """Give a PNG file as Markdown that holds it whole.

    Args:
        path: the file.
        text: what it shows, for who cannot see it.
    """
    content = base64.b64encode(path.read_bytes()).decode()
    return f"![{escaped(text)}](data:image/png;base64,{content})"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table as Markdown that shows its cells as they are."""
    return notes.table([*map(escaped, headings)], [[*map(escaped, row)] for row in rows])


def escaped(text: str) -> str:
    """Give a text as Markdown that shows it as it is, on one line."""
    marks = "\\`*_{}[]<>|&#!"
    return "".join(f"\\{c}" if c in marks else c for c in " ".join(text.split()))


def write(path: Path, title: str, markdown: str) -> None:
    """Write a page, to be read by whom the umask lets; HTML in the Markdown is shown, not obeyed.

    Raises:
        JournalError: it cannot be written.
    """
    # A link or a picture from elsewhere would tell there that the page is read.
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("link")
    body = parser.render(markdown)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )
    files.replace(path, page.encode("utf-8", "backslashreplace"), opener=None)
