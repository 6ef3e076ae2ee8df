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
)
from mmsearch.errors import InputError
from tests.support.word_files import LINES, TEN, refusal, write


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


def test_boundary_is_looked_for_in_lowered_words(tmp_path: Path) -> None:
    path = write(tmp_path, LINES.upper())
    assert read_corpus(path, boundary="a").words == tuple(word.upper() for word in TEN)
    with pytest.raises(InputError, match="boundary"):
        read_corpus(path, boundary="a", lower=True)


def test_dots_are_counted_and_the_option_for_them_is_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, LINES + "st. john\nst. kitts\n"))
    assert "2 of 12" in message
    assert "--boundary" in message


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
