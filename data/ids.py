"""Words as rows of character ids, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmsearch.data.corpus import unknown_character
from mmsearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmsearch.data.corpus import Vocabulary


def encode_words(words: Sequence[str], vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Return the ids of all words in one array, each word followed by the boundary; shape (N,).

    Raises:
        InputError: a character is not in the vocabulary, or a word contains the boundary.
    """
    boundary = vocabulary.boundary
    text = "".join(word + boundary for word in words)
    # surrogatepass, so that half a surrogate pair gets the error for unknown characters.
    codes_N = _code_points(text)
    codes_V = _code_points("".join(vocabulary.characters))
    table = np.full(max(codes_V.max(), codes_N.max(initial=0)) + 1, -1, np.int32)
    table[codes_V] = np.arange(vocabulary.size)
    ids_N = table[codes_N]
    if (ids_N < 0).any():
        character = text[int(np.argmax(ids_N < 0))]
        raise unknown_character(character, next(word for word in words if character in word))
    if np.count_nonzero(ids_N == 0) != len(words):
        word = next(word for word in words if boundary in word)
        msg = f"a word must not contain the boundary {boundary!r}, got {word!r}; remove it"
        raise InputError(msg)
    return ids_N


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
