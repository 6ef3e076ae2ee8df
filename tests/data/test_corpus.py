"""Reading a word list: what counts as a word, and which files are refused."""

import hashlib
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.corpus import (
    BUILTIN_CORPUS,
    Corpus,
    Vocabulary,
    read_corpus,
    table_delimiter,
)
from mmsearch.errors import InputError

TEN = ("emma", "olivia", "ava", "isabella", "sophia", "amelia", "mia", "harper", "evelyn", "zoe")
LINES = "\n".join(TEN) + "\n"


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "words.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refusal(path: Path) -> str:
    """Return the message about a bad corpus: one line of bounded length that names the path."""
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(str(path)) in message
    return message


@pytest.mark.parametrize(
    "data",
    [
        LINES.removesuffix("\n"),
        LINES,
        LINES.replace("\n", "\r\n"),
        f"\ufeff{LINES}",
        "\n\n \t\r\n" + "\n\n".join(f" \t{word}\t \u3000" for word in TEN) + "\n \n",
    ],
    ids=["no last newline", "lf", "crlf", "byte order mark", "blanks"],
)
def test_words_are_the_stripped_lines_in_their_order(tmp_path: Path, data: str) -> None:
    corpus = read_corpus(write(tmp_path, data))

    assert corpus == Corpus.of(TEN, name="words")
    assert (corpus.words, corpus.n_lines, corpus.n_repeats) == (TEN, 10, 0)
    # Computable without mmsearch.
    assert corpus.fingerprint == hashlib.sha256("\n".join(TEN).encode()).hexdigest()
    assert corpus.fingerprint != Corpus.of(TEN[::-1], name="words").fingerprint
    assert not any(word in repr(corpus) for word in TEN)  # a tenth of them are test words


def test_repeated_lines_are_counted_and_dropped_unless_kept(tmp_path: Path) -> None:
    path = write(tmp_path, LINES + "mia\nemma\nzo\u00eb\nzoe\u0308")  # NFC: one spelling

    dropped, kept = read_corpus(path), read_corpus(path, keep_duplicates=True)

    assert dropped.words == (*TEN, "zo\u00eb")
    assert kept.words == (*TEN, "mia", "emma", "zo\u00eb", "zo\u00eb")
    assert (dropped.n_lines, dropped.n_repeats) == (kept.n_lines, kept.n_repeats) == (14, 3)
    assert dropped.fingerprint != kept.fingerprint


def test_letters_of_any_script_case_and_inner_spaces_are_kept(tmp_path: Path) -> None:
    persian = "نیم\u200cفاصله"  # noqa: RUF001 (with its joiner)
    words = ("Zoë", "Мария", "さくら", "𐐷𐐲", persian, "mary ann", "O'Neil", "Will", "will", "l-u")

    assert read_corpus(write(tmp_path, "\n".join(words))).words == words


@pytest.mark.parametrize(
    ("data", "named"),
    [
        # Characters at which str.splitlines breaks, and control characters, by line and number.
        *(
            (f"{LINES}ma{bad}ry", ("line 11", f"U+{ord(bad):04X}"))
            for bad in "\x0b\x0c\x1c\x85\u2028\u2029\r\x00\t\x1b\ufeff"
        ),
        (LINES.replace("ava", "\n st. john"), ("line 4", "'st. john'", "'.'")),
        (b"\x1f\x8b\x08\x00", ("gzip",)),
        (b"PK\x03\x04\x14\x00", ("spreadsheet", "CSV")),
        (b"\xff\xfee\x00m\x00", ("line 1:", "0xff", "UTF-8")),
        (b"emma\nzo\xeb\n", ("line 2:", "0xeb", "UTF-8")),
        (b"emma\n\xed\xa0\x80", ("line 2:", "0xed", "UTF-8")),
        (b"\x89PNG\r\n\x1a\n", ("line 1:", "0x89", "UTF-8")),
        ("", ("10 distinct words, got 0",)),
        (" \n\r\n", ("10 distinct words, got 0",)),
        ("\n".join(TEN[:9] * 3), ("10 distinct words, got 9",)),
        ("x" * 1_000_000 + ".", ("line 1",)),
    ],
)
def test_bad_file_is_refused_with_its_place(
    tmp_path: Path, data: str | bytes, named: tuple[str, ...]
) -> None:
    message = refusal(write(tmp_path, data))

    assert all(name in message for name in named)
    assert len(message) < 500  # a long word is cut


def test_path_that_is_not_a_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # a study reads its corpus again when it resumes
    closed = write(tmp_path, LINES)
    closed.chmod(0)
    names = ["nowhere/words.txt", ".", "pipe", "a\0b", "x" * 5000]
    for name in names if os.geteuid() == 0 else [*names, closed.name]:
        refusal(tmp_path / name)


# Bytes are mostly refused; letters, marks and spaces mostly make a corpus.
A_LINE = st.text(st.characters(categories=["L", "M", "Zs"]), min_size=1)
ANY_LINE = st.text() | st.text(st.characters(categories=["L", "M", "Zs", "Cf"]), min_size=1)
ANY_BYTES = (
    st.binary()
    | st.lists(ANY_LINE, min_size=8, max_size=20).map(
        lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
    )
    | st.lists(A_LINE, min_size=12, max_size=20).map(lambda lines: "\r\n".join(lines).encode())
)


@given(
    data=ANY_BYTES,
    keep_duplicates=st.booleans(),
    column=st.sampled_from(["", "", "1", "2", "emma"]),
    lower=st.booleans(),
    boundary=st.sampled_from(".|ae"),
)
def test_any_bytes_give_clean_words_or_a_refusal(  # noqa: PLR0913 (how a file is read)
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    *,
    keep_duplicates: bool,
    column: str,
    lower: bool,
    boundary: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        corpus = read_corpus(
            path, keep_duplicates=keep_duplicates, column=column, lower=lower, boundary=boundary
        )
    except InputError as error:
        message = str(error)
        assert "\n" not in message
        return

    assert len(set(corpus.words)) >= 10
    assert len(corpus.words) == corpus.n_lines - (0 if keep_duplicates else corpus.n_repeats)
    assert all(word and word == word.strip() and boundary not in word for word in corpus.words)
    assert all(not lower or word == word.lower() for word in corpus.words)
    assert set("".join(corpus.words)) | {boundary} == set(corpus.vocabulary.characters)
    path.write_text("\n".join(corpus.words), encoding="utf-8", newline="")
    again = read_corpus(path, keep_duplicates=True, boundary=boundary)
    assert again.fingerprint == corpus.fingerprint


def test_vocabulary_is_the_boundary_and_then_the_characters_in_order() -> None:
    vocabulary = Vocabulary.of(["ba", "𐐷é", "a b"])

    assert vocabulary.characters == (".", " ", "a", "b", "é", "𐐷")
    assert vocabulary.size == 6
    assert vocabulary.encode("baé") == [3, 2, 4]
    assert all(vocabulary.stoi[c] == i for i, c in vocabulary.itos.items())
    with pytest.raises(InputError, match=r"'è' \(U\+00E8\) of 'zoè'"):
        Vocabulary.of(["zo"]).encode("zoè")
    # As it reaches a worker, and as a checkpoint stores it.
    copy = pickle.loads(pickle.dumps(vocabulary))  # noqa: S301 (our own bytes)
    assert copy == vocabulary == Vocabulary(characters=vocabulary.characters)
    assert hash(copy) == hash(vocabulary)
    assert copy.encode("baé") == [3, 2, 4]


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


def test_boundary_is_looked_for_in_lowered_words(tmp_path: Path) -> None:
    path = write(tmp_path, LINES.upper())
    assert read_corpus(path, boundary="a").words == tuple(word.upper() for word in TEN)
    with pytest.raises(InputError, match="boundary"):
        read_corpus(path, boundary="a", lower=True)


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


def test_dots_are_counted_and_the_option_for_them_is_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, LINES + "st. john\nst. kitts\n"))
    assert "2 of 12" in message
    assert "--boundary" in message


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


@pytest.mark.parametrize("characters", [(), (".", "a", "a"), (".", "ab"), (".", "")])
def test_stored_vocabulary_with_ids_moved_or_merged_is_refused(characters: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        Vocabulary(characters=characters)


def test_builtin_corpus_has_its_published_counts() -> None:
    builtin = read_corpus(BUILTIN_CORPUS)

    assert (builtin.n_lines, len(builtin.words), builtin.n_repeats) == (32_178, 29_619, 2_559)
    assert builtin.vocabulary.characters == tuple(".abcdefghijklmnopqrstuvwxyz")
    assert sum(len(word) + 1 for word in builtin.words) == 212_256


def test_reference_corpus_has_its_published_counts(reference_path: Path, reference: Corpus) -> None:
    assert len(reference.words) == reference.n_lines == 32_033
    assert len(read_corpus(reference_path).words) == 29_494
    assert reference.vocabulary.size == 27
