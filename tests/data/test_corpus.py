"""Words are read as they are, and what is no list of words is refused in one line."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.data.corpus import BOUNDARY, BUILTIN_CORPUS, Corpus, Vocabulary, read_corpus
from mmsearch.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

TEN = ("emma", "olivia", "ava", "isabella", "sophia", "amelia", "mia", "harper", "evelyn", "zoe")


def write(folder: Path, data: str | bytes) -> Path:
    """Write a corpus file."""
    path = folder / "words.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refusal(path: Path) -> str:
    """Read a bad corpus and return its one-line message, which names the path."""
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(str(path)) in message
    return message


def test_words_keep_their_order_and_the_file_its_name(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "\n".join(TEN)))

    assert corpus.words == TEN
    assert corpus.name == "words"
    assert (corpus.n_lines, corpus.n_repeats, corpus.keep_duplicates) == (10, 0, False)


@pytest.mark.parametrize(
    "data",
    [
        "\n".join(TEN).encode(),
        ("\n".join(TEN) + "\n").encode(),
        "\r\n".join(TEN).encode(),
        b"\xef\xbb\xbf" + "\n".join(TEN).encode(),
        ("\n\n \t\r\n" + "\n\n".join(f" \t{word}\t \u3000" for word in TEN) + "\n \n").encode(),
    ],
    ids=["lf", "last-newline", "crlf", "bom", "blanks"],
)
def test_form_of_the_file_changes_nothing(tmp_path: Path, data: bytes) -> None:
    corpus = read_corpus(write(tmp_path, data))

    assert corpus == Corpus.of(TEN, name="words")
    assert corpus.n_lines == 10


def test_repeated_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join([*TEN, "mia", "emma", "mia"]))

    dropped, kept = read_corpus(path), read_corpus(path, keep_duplicates=True)

    assert dropped.words == TEN
    assert kept.words == (*TEN, "mia", "emma", "mia")
    assert (dropped.n_lines, dropped.n_repeats) == (kept.n_lines, kept.n_repeats) == (13, 3)
    assert dropped.fingerprint != kept.fingerprint


def test_fingerprint_is_the_hash_of_the_words(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "\n".join(TEN)))
    turned = read_corpus(write(tmp_path, "\n".join(reversed(TEN))))

    assert corpus.fingerprint == hashlib.sha256("\n".join(TEN).encode()).hexdigest()
    assert corpus.fingerprint != turned.fingerprint


def test_letters_of_any_script_and_spaces_inside_are_words(tmp_path: Path) -> None:
    words = (
        "Zoë",
        "Мария",
        "さくら",
        "𐐷𐐲",
        "نیم\u200cفاصله",  # noqa: RUF001  (a Persian word)
        "mary ann",
        "O'Neil",
        "Will",
        "will",
        "l-u",
    )

    corpus = read_corpus(write(tmp_path, "\n".join(words)))

    assert corpus.words == words


def test_two_spellings_of_one_letter_are_one_word(tmp_path: Path) -> None:
    corpus = read_corpus(write(tmp_path, "\n".join([*TEN, "zoe\u0308", "zo\u00eb"])))

    assert corpus.words[10:] == ("zo\u00eb",)
    assert corpus.n_repeats == 1


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_only_lf_and_crlf_end_a_line(tmp_path: Path, separator: str) -> None:
    message = refusal(write(tmp_path, "\n".join([*TEN, f"mary{separator}ann"])))

    assert "line 11" in message
    assert f"U+{ord(separator):04X}" in message


@pytest.mark.parametrize("data", [b"\x00", b"ma\x00ry", b"a\tb", b"a\x1bb", "ma\ufeffry".encode()])
def test_control_characters_are_refused(tmp_path: Path, data: bytes) -> None:
    assert "control characters" in refusal(write(tmp_path, "\n".join(TEN).encode() + b"\n" + data))


@pytest.mark.parametrize(
    "data", [b"\xff\xfee\x00m\x00", b"emma\nzo\xeb\n", b"emma\n\xed\xa0\x80", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_not_utf8_is_refused(tmp_path: Path, data: bytes) -> None:
    message = refusal(write(tmp_path, data))

    assert "must be UTF-8 text, got byte 0x" in message
    assert f"line {2 if data.startswith(b'emma') else 1}:" in message


def test_word_with_the_boundary_is_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "\n".join([*TEN[:3], "", " st. john", *TEN[3:]])))

    assert "line 5" in message
    assert "'st. john'" in message
    assert repr(BOUNDARY) in message


@pytest.mark.parametrize(("data", "n"), [("", 0), (" \n\r\n", 0), ("\n".join(TEN[:9] * 3), 9)])
def test_fewer_than_ten_distinct_words_are_refused(tmp_path: Path, data: str, n: int) -> None:
    path = write(tmp_path, data)

    assert f"at least 10 distinct words, got {n};" in refusal(path)
    with pytest.raises(InputError, match="distinct words"):
        read_corpus(path, keep_duplicates=True)


def test_path_that_is_not_a_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # a study reads its corpus again when it resumes
    closed = write(tmp_path, "\n".join(TEN))
    closed.chmod(0)
    names = ["nowhere/words.txt", ".", "pipe", "a\0b", "x" * 5000]
    for name in names if os.geteuid() == 0 else [*names, closed.name]:
        refusal(tmp_path / name)


def test_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    assert len(refusal(write(tmp_path, "x" * 1_000_000 + "."))) < 500


@settings(deadline=None)
@given(
    # Bytes are mostly refused; letters, marks and spaces mostly make a corpus.
    data=st.binary()
    | st.lists(
        st.text() | st.text(st.characters(categories=["L", "M", "Zs", "Cf"]), min_size=1),
        min_size=8,
        max_size=20,
    ).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))
    | st.lists(
        st.text(st.characters(categories=["L", "M", "Zs"]), min_size=1), min_size=12, max_size=20
    ).map(lambda lines: "\r\n".join(lines).encode()),
    keep_duplicates=st.booleans(),
)
def test_any_bytes_give_a_corpus_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, *, keep_duplicates: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)
    try:
        corpus = read_corpus(path, keep_duplicates=keep_duplicates)
    except InputError as error:
        message = str(error)
        assert "\n" not in message
        return

    assert len(set(corpus.words)) >= 10
    assert len(corpus.words) == corpus.n_lines - (0 if keep_duplicates else corpus.n_repeats)
    assert all(word and word == word.strip() and BOUNDARY not in word for word in corpus.words)
    assert set("".join(corpus.words)) | {BOUNDARY} == set(corpus.vocabulary.characters)
    path.write_text("\n".join(corpus.words), encoding="utf-8", newline="")
    assert read_corpus(path, keep_duplicates=True).fingerprint == corpus.fingerprint


def test_repr_of_a_corpus_shows_no_word() -> None:
    assert not any(word in repr(Corpus.of(TEN, name="x")) for word in TEN)


def test_vocabulary_is_sorted_after_the_boundary() -> None:
    vocabulary = Vocabulary.of(["ba", "𐐷é", "a b"])

    assert vocabulary.characters == (".", " ", "a", "b", "é", "𐐷")
    assert vocabulary.size == 6
    assert vocabulary.encode("baé") == [3, 2, 4]
    assert all(vocabulary.stoi[c] == i for i, c in vocabulary.itos.items())


def test_vocabulary_travels() -> None:
    vocabulary = Vocabulary.of(TEN)

    copy = pickle.loads(pickle.dumps(vocabulary))  # noqa: S301  (our own bytes)

    assert copy == vocabulary == Vocabulary(characters=vocabulary.characters)
    assert hash(copy) == hash(vocabulary)
    assert copy.encode("mia") == vocabulary.encode("mia")


def test_unknown_character_is_named() -> None:
    with pytest.raises(InputError, match=r"'é' \(U\+00E9\) of 'zoé'"):
        Vocabulary.of(["zo"]).encode("zoé")


@pytest.mark.parametrize("characters", [(), ("a", "."), (".", "a", "a"), (".", "ab"), (".", "")])
def test_broken_vocabulary_is_refused(characters: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        Vocabulary(characters=characters)


def test_reading_words_does_not_load_torch() -> None:
    code = "import sys, mmsearch.data.corpus, mmsearch.data.split; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "False"


def test_builtin_corpus_counts() -> None:
    corpus = read_corpus(BUILTIN_CORPUS)

    assert (corpus.n_lines, len(corpus.words), corpus.n_repeats) == (32_178, 29_619, 2_559)
    assert corpus.vocabulary.characters == tuple(".abcdefghijklmnopqrstuvwxyz")
    assert sum(len(word) + 1 for word in corpus.words) == 212_256


def test_reference_corpus_counts(reference_path: Path, reference: Corpus) -> None:
    assert len(reference.words) == reference.n_lines == 32_033
    assert len(read_corpus(reference_path).words) == 29_494
    assert reference.vocabulary.size == 27
