"""Letters that matplotlib's own font lacks are drawn with an installed one, or by code point."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]  # of matplotlib's
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]  # likewise

from tests.support.commands import environment

RARE, MARK = "\U00030001", "\U0001e944"
"""A letter and a combining mark that hardly any font has."""
DRAW = """
import json, sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("error")  # matplotlib warns of what it cannot draw
from mmsearch.tracking.figures.embedding import embedding_scatter
from mmsearch.tracking.figures.style import save_figure
path, study, characters = Path(sys.argv[1]), sys.argv[2], list(sys.argv[3])
rows = np.arange(2.0 * len(characters)).reshape(-1, 2)
figure = embedding_scatter(rows, characters, title=study)
save_figure(figure, path)
axes = figure.axes[0]
print(json.dumps([axes.get_title(loc="left"), [text.get_text() for text in axes.texts]]))
"""


def draw(
    folder: Path, characters: str, env: dict[str, str], title: str = "names"
) -> tuple[str, list[str], bytes]:
    """Draw an embedding in a new process; returns its title, its labels and the picture."""
    command = [sys.executable, "-c", DRAW, str(folder / "e.png"), title, characters]
    done = subprocess.run(  # our own code
        command, env=environment(folder, env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    title, labels = json.loads(done.stdout)
    return title, labels, (folder / "e.png").read_bytes()


def write_font(path: Path, characters: str, width: int = 500) -> None:
    """Write a font in which each of these characters is a box."""
    pen = TTGlyphPen(None)
    for point in ((0, 0), (0, 700), (width, 700), (width, 0)):
        (pen.lineTo if point != (0, 0) else pen.moveTo)(point)
    pen.closePath()
    box, names = pen.glyph(), [f"u{ord(c):05X}" for c in characters]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", *names])
    font.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    font.setupGlyf(dict.fromkeys((".notdef", *names), box))
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", *names), (width + 100, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    font.save(path)


def test_an_installed_font_draws_what_matplotlibs_lacks(tmp_path: Path) -> None:
    """Also one that was installed after matplotlib made its list of fonts, beside a broken one."""
    write_font(tmp_path / "data/fonts/Rare.ttf", RARE)
    write_font(tmp_path / "data/fonts/Marks.ttf", "\u25cc" + MARK)
    (tmp_path / "data/fonts/Broken.ttf").write_bytes(b"\0\1\0\0 no font")
    env = {"XDG_DATA_HOME": str(tmp_path / "data")}

    title, labels, _ = draw(tmp_path, f".a{RARE}{MARK}", env, title=f"{RARE}s")

    assert labels == [".", "a", RARE, "\u25cc" + MARK]
    assert title == f"{RARE}s"


def test_without_a_font_a_line_says_what_to_install(tmp_path: Path) -> None:
    env = {"MPL_IGNORE_SYSTEM_FONTS": "1"}

    title, labels, _ = draw(tmp_path, ".a\n\u0915\u093f", env, title="\u0915s")

    assert labels == [".", "a", "U+000A", "U+0915", "U+093F"]
    first, line = title.split("\n")
    assert first == "U+0915s"
    assert "2 characters" in line, "a line end is no letter that a font could have"
    assert "fonts-noto-core" in line
    assert "fonts-noto-cjk" in draw(tmp_path, ".中", env)[0]
    flag = draw(tmp_path, ".\U0001f1e9\ufe0f", env)[0]
    assert "1 character " in flag, "nor is a selector of variants"
    assert "fonts-symbola" in flag
    assert "\n" not in draw(tmp_path, ".aя", env)[0]


@pytest.mark.parametrize("mark", ["\u0301", "\u05b4"])
def test_a_combining_mark_is_on_a_dotted_circle(tmp_path: Path, mark: str) -> None:
    """Alone it is a speck of which nobody can tell what it is."""
    assert unicodedata.combining(mark)

    _, labels, _ = draw(tmp_path, f".{mark}", {"MPL_IGNORE_SYSTEM_FONTS": "1"})

    assert labels == [".", "\u25cc" + mark]


def test_workers_draw_with_the_same_font(tmp_path: Path) -> None:
    """Fonts are found in an order that differs between processes."""
    for i in range(6):
        write_font(tmp_path / f"data/fonts/Rare{i}.ttf", RARE, width=100 * (i + 1))
    env = {"XDG_DATA_HOME": str(tmp_path / "data")}

    pictures = {
        draw(tmp_path, f".{RARE}", env | {"PYTHONHASHSEED": str(seed)})[2] for seed in range(4)
    }

    assert len(pictures) == 1
