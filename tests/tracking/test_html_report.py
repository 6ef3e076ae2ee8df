"""A page shows what it is given, as it is, and asks nobody for anything."""

import base64
import html
import os
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mmsearch.tracking import html_report


@given(st.text(min_size=1, max_size=60))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    shown = (
        MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .render(html_report.table(("x", "y"), [(f"a{text}a", "")]))
    )
    cells = re.findall("<td>(.*?)</td>", shown, re.DOTALL)
    expected = " ".join(f"a{text}a".split()).replace("\0", "\N{REPLACEMENT CHARACTER}")
    assert html.unescape(cells[0]) == expected
    assert len(cells) == 2


def test_page_holds_its_pictures_and_no_script(tmp_path: Path) -> None:
    png = tmp_path / "dot.png"
    png.write_bytes(b"\x89PNG of a test")
    markdown = "\n\n".join(
        [
            "# A [study]",
            html_report.picture(png, "a | picture"),
            html_report.table(("name", "loss"), [("<script>alert(1)</script>", "2.0")]),
            "<script>alert(2)</script> [out](http://example.com) ![out](http://example.com/x.png)",
        ]
    )
    html_report.write(tmp_path / "html_report.html", "A & B", markdown)
    written = (tmp_path / "html_report.html").read_text()
    assert "<title>A &amp; B</title>" in written
    assert base64.b64encode(b"\x89PNG of a test").decode() in written
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>" in written
    assert "<script" not in written
    assert "href=" not in written
    assert "default-src 'none'" in written
    umask = os.umask(0o022)
    os.umask(umask)
    assert (tmp_path / "html_report.html").stat().st_mode & 0o777 == 0o666 & ~umask
