"""Markdown and pictures as one HTML file, which needs no network and no other file."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from mmsearch.tracking import markdown
from mmsearch.tracking.journal import files

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
    """Return Markdown that embeds a PNG file; `text` describes it for those who cannot see it."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f"![{markdown.escaped(text)}](data:image/png;base64,{content})"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown whose cells are plain text."""
    escaped = markdown.escaped
    return markdown.table([*map(escaped, headings)], [[*map(escaped, row)] for row in rows])


def write(path: Path, title: str, text: str) -> None:
    """Write a page of Markdown, readable according to the umask; HTML in the Markdown is escaped.

    Raises:
        JournalError: the file cannot be written.
    """
    # A link or a picture from elsewhere would reveal there that the page is being read.
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("link")
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{parser.render(text)}</body>\n</html>\n"
    )
    files.replace(path, page.encode("utf-8", "backslashreplace"), opener=None)
