"""Naming the encoding of a word list that is not UTF-8."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmsearch.data.corpus import read_corpus
from mmsearch.errors import InputError


def seeming(path: Path, words: Sequence[str], encoding: str) -> str:
    """Return what is said of words that another program has saved."""
    path.write_bytes("\r\n".join(words).encode(encoding))
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "cp1252", "macintosh"])
def test_other_encoding_is_named_with_its_conversion(tmp_path: Path, encoding: str) -> None:
    """What other programs save is told apart from a file that is no text."""
    path = tmp_path / "my words.txt"
    message = seeming(path, [f"caf{'é' * n}" for n in range(1, 20)], encoding)
    command = message.partition("convert it with: ")[2]
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    [made] = set(tmp_path.iterdir()) - {path}
    assert read_corpus(made).words[0] == "café"


RUSSIAN = ["Мария", "Анна", "Тимофей", "Дмитрий", "Яна", "Юлия", "Пётр", "Ольга", "Игорь", "Зоя"]
CZECH = ["škoda", "Čapek", "žena", "Jiří", "Tomáš", "Lukáš", "Šárka", "Ondřej", "Luděk", "Věra"]
FRENCH = ["voilà", "l\u2019été", "Noël", "garçon", "Héloïse", "œuvre", "père", "Éric", "Loïc", "où"]


@pytest.mark.parametrize(
    ("words", "encoding", "shown"),
    [
        (RUSSIAN, "WINDOWS-1251", "'Мария'"),
        ([word.lower() for word in RUSSIAN], "KOI8-R", "'мария'"),
        (CZECH, "ISO-8859-2", "'škoda'"),
        (CZECH, "WINDOWS-1250", "'Čapek'"),
        (FRENCH, "WINDOWS-1252", "'voilà'"),
        ([word.lower() for word in FRENCH if "œ" not in word], "MACINTOSH", "'voilà'"),
        (["さくら", "太郎", "ひな", "葵", "蓮", "陽菜", "ケンジ"], "SHIFT_JIS", "'さくら'"),
    ],
)
def test_encodings_that_are_possible_are_each_shown_by_a_word(
    tmp_path: Path, words: Sequence[str], encoding: str, shown: str
) -> None:
    """Bytes alone do not tell them apart, but whoever knows the words does."""
    message = seeming(tmp_path / "words.txt", words, encoding)
    assert f"{encoding} ({shown})" in message
    assert "iconv" in message
    if encoding == "WINDOWS-1251":
        assert "1252" not in message  # no language is written so


def test_damaged_utf_8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\n".join(RUSSIAN).encode() + b"\n\xcc\xe0")
    with pytest.raises(InputError, match="line 11") as caught:
        read_corpus(path)
    assert "iconv" not in str(caught.value)
