"""Reading a column of a table: what divides it, and what is a heading, a row or a word."""

from pathlib import Path

import pytest

from mmsearch.data.corpus import read_corpus
from mmsearch.data.tables import table_delimiter
from mmsearch.errors import InputError
from tests.support.word_files import LINES, TEN, refusal, write

TABLE = [("Emma", 9), ("O.Neil, Zoë", 8), *((word.title(), 7) for word in TEN[1:])]
WORDS = tuple(word for word, _ in TABLE)


@pytest.mark.parametrize(
    ("delimiter", "header", "column"),
    [
        (",", "name,count", "name"),
        (";", "count; name ;rank", "name"),
        ("\t", "id\tname", "name"),
        ("|", "", "1"),
        (",", "", "1"),
        (",", "", "2"),
    ],
)
def test_column_of_a_table_is_read_by_its_heading_or_its_number(
    tmp_path: Path, delimiter: str, header: str, column: str
) -> None:
    """CSV's quotes keep a delimiter in a word; only a heading that was named is no word."""
    is_first = header.startswith("name") or column == "1"
    rows = [(f'"{word}"', str(count)) for word, count in TABLE]
    lines = [delimiter.join(row if is_first else row[::-1]) for row in rows]
    path = write(tmp_path, "\n".join(filter(None, [header, *lines])) + "\n")
    assert table_delimiter(path.read_text().splitlines()) == delimiter

    corpus = read_corpus(path, column=column, boundary="/")
    assert corpus.words == WORDS
    assert corpus.vocabulary.characters[0] == corpus.vocabulary.boundary == "/"
    lower = read_corpus(path, column=column, boundary="/", lower=True)
    assert lower.words == tuple(word.lower() for word in WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nname;share\n" + "".join(f"{word};0,5\n" for word in TEN),
        "| name | n |\n|:---|---:|\n" + "".join(f"| {word} | 5 |\n" for word in TEN),
        "name,\n" + "".join(f"{word},\n" for word in TEN),
        "name,name\n" + "".join(f"{word},{word}x\n" for word in TEN),
        " name ,n\n" + "".join(f" {word} , 1\n\n" for word in TEN),
    ],
    ids=["sep", "Markdown", "no second column", "same headings", "blanks"],
)
def test_notes_and_rulers_of_a_table_are_no_words(tmp_path: Path, text: str) -> None:
    assert read_corpus(write(tmp_path, text), column="name").words == TEN


def test_number_of_a_column_goes_before_a_heading(tmp_path: Path) -> None:
    """The first line may hold a count that looks like the number that was asked for."""
    path = write(tmp_path, "".join(f"{word} {n}\n" for n, word in enumerate(TEN, start=1)))
    corpus = read_corpus(path, column="1")
    assert (corpus.words, corpus.reads_heading) == (TEN, False)


@pytest.mark.parametrize("delimiter", [",", "\t", "   "])
def test_heading_that_a_number_reads_as_a_word_is_noticed(tmp_path: Path, delimiter: str) -> None:
    """The words of studies that exist stay; a name leaves the heading out."""
    rows = [("name", "sex", "share"), *((word, "F", f"{n}.5%") for n, word in enumerate(TEN))]
    path = write(tmp_path, "\n".join(map(delimiter.join, rows)))
    corpus = read_corpus(path, column="1")
    assert (corpus.words, corpus.reads_heading) == (("name", *TEN), True)
    named = read_corpus(path, column="name")
    assert (named.words, named.reads_heading) == (TEN, False)
    path.write_text("\n".join(delimiter.join(row[:2]) for row in rows))
    assert not read_corpus(path, column="1").reads_heading  # nothing tells it from a word


def test_words_beside_their_counts_are_a_table(tmp_path: Path) -> None:
    """As `uniq -c` prints them; words of two parts are none."""
    path = write(tmp_path, "".join(f"{n:>7} {word}\n" for n, word in enumerate(TEN)))
    assert table_delimiter(path.read_text().splitlines()) == " "
    assert read_corpus(path, column="2").words == TEN
    assert not table_delimiter([f"{word} ann" for word in TEN])
    assert not table_delimiter(TEN)
    assert table_delimiter([f"boeing {n},{n}" for n in range(700, 800)]) == ","
    assert table_delimiter([f"{word},   5" for word in TEN]) == ","
    assert table_delimiter([f"{word}   ,5" for word in TEN]) == ","
    assert not table_delimiter([*TEN, "mary ann", "mary  lou", "louis 14"])


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("{word:<15}{n:>2}.300 3.300 {n:>6}", "1"),  # as the US Census Bureau's
        ("{word} 3 {n}", "1"),
        ("{word:<10} 1,{n:03}", "1"),
        ("  {n}. {word}   3,3%", "2"),
        ("{n:<5}mary {word}    F  ", "2"),
        ("F   {word}", "2"),
    ],
)
def test_columns_divided_by_blanks_are_a_table(tmp_path: Path, row: str, column: str) -> None:
    lines = [row.format(word=word, n=n) for n, word in enumerate(TEN, start=1)]
    path = write(tmp_path, "\n".join(lines))
    words = TEN if "mary" not in row else tuple(f"mary {word}" for word in TEN)
    assert table_delimiter(lines).isspace()
    assert read_corpus(path, column=column).words == words
    if "." in lines[0]:
        assert "--column" in refusal(path)
    # A word of two parts among them is not cut.
    lines[3] = lines[3].replace(words[3], "lou ann")
    words = read_corpus(write(tmp_path, "\n".join(lines)), column=column).words
    assert words[3] == "lou ann"


def test_only_what_is_too_much_for_a_row_is_joined(tmp_path: Path) -> None:
    """A header with a number, and a count that is missing, are read as before."""
    words = tuple(word + end for word in TEN for end in "aei")
    lines = ["id word freq 2020", *(f"{n} {word} 7 1" for n, word in enumerate(words))]
    lines[4] = lines[4].replace("7", "NA")
    path = write(tmp_path, "\n".join(lines))
    assert read_corpus(path, column="word").words == words


@pytest.mark.parametrize(
    ("text", "column", "named"),
    [
        (LINES, "name", ("'name'", "--column")),
        (LINES.replace("\n", ",1\n"), "name", ("'name'", "'emma'", "'1'")),
        (LINES.replace("\n", ",1\n"), "3", ("'3'", "1 to 2")),
        (LINES.replace("\n", "\t1\n"), "", ("U+0009", "--column")),
        (LINES.replace("\n", ",1\n") + '"liam,1\n', "1", ("line 11", "liam")),
    ],
)
def test_column_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, text: str, column: str, named: tuple[str, ...]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_corpus(path, column=column)
    assert all(name in str(caught.value) for name in named)
