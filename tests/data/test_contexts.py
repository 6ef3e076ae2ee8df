"""The vectorised contexts are the article's loop, and counting repeats loses none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.data.contexts import Contexts, build_contexts, distinct
from mmsearch.data.corpus import Corpus, Vocabulary
from mmsearch.data.split import Claim, Split
from mmsearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Latin, accented, CJK and astral letters: one to four bytes each in UTF-8.
LETTERS = "abcxyzéß中文さ𐐷𐐲🜚"
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=12) | st.text(LETTERS, max_size=2))


def naive(
    words: Sequence[str], vocabulary: Vocabulary, block_size: int
) -> tuple[list[list[int]], list[int]]:
    """Build them as the article does, one character at a time."""
    inputs, targets = [], []
    for word in words:
        context = [0] * block_size
        for character in word + ".":
            ix = vocabulary.stoi[character]
            inputs.append(context)
            targets.append(ix)
            context = [*context[1:], ix]
    return inputs, targets


def pairs(contexts: Contexts) -> Counter[tuple[tuple[int, ...], int]]:
    """Count (context, target) pairs without any tensor operation."""
    rows = zip(contexts.inputs.tolist(), contexts.targets.tolist(), strict=True)
    return Counter((tuple(context), target) for context, target in rows)


@settings(deadline=None)
@given(words=WORDS, block_size=st.integers(1, 15))
def test_contexts_are_those_of_the_plain_loop(words: list[str], block_size: int) -> None:
    vocabulary = Vocabulary.of(LETTERS)
    inputs, targets = naive(words, vocabulary, block_size)

    contexts = build_contexts(words, vocabulary, block_size)

    assert contexts.inputs.shape == (len(targets), block_size)
    assert contexts.inputs.tolist() == inputs
    assert contexts.targets.tolist() == targets
    assert (contexts.inputs.dtype, contexts.targets.dtype) == (torch.int32, torch.int64)
    assert len(contexts) == sum(len(word) + 1 for word in words)
    assert contexts.block_size == block_size


def test_first_name_reads_as_in_the_article() -> None:
    vocabulary = Vocabulary.of(["emma"])

    contexts = build_contexts(["emma"], vocabulary, 3)

    shown = ["".join(vocabulary.itos[i] for i in row) for row in contexts.inputs.tolist()]
    assert shown == ["...", "..e", ".em", "emm", "mma"]
    assert [vocabulary.itos[i] for i in contexts.targets.tolist()] == list("emma.")


def test_no_words_give_no_examples() -> None:
    contexts = build_contexts([], Vocabulary.of("ab"), 3)

    assert contexts.inputs.shape == (0, 3)
    assert distinct(contexts).n_examples == len(distinct(contexts).pair_count) == 0
    assert distinct(contexts).inputs.shape == (0, 3)


@pytest.mark.parametrize("block_size", [0, -1])
def test_block_size_below_one_is_refused(block_size: int) -> None:
    with pytest.raises(InputError, match=f"at least 1 character, got {block_size}"):
        build_contexts(["ab"], Vocabulary.of("ab"), block_size)


@pytest.mark.parametrize("character", ["é", "A", "🜚", "\ud800"])
def test_unknown_character_is_refused(character: str) -> None:
    with pytest.raises(InputError, match=rf"U\+{ord(character):04X}.* not in the vocabulary"):
        build_contexts(["ab", f"b{character}"], Vocabulary.of(["ab", "z"]), 3)


def test_word_with_the_boundary_is_refused() -> None:
    with pytest.raises(InputError, match=r"boundary '\.', got 'a\.b'"):
        build_contexts(["ab", "a.b"], Vocabulary.of("ab"), 3)


@settings(deadline=None)
@given(words=WORDS.filter(bool), block_size=st.integers(1, 15), data=st.data())
def test_distinct_pairs_count_every_example(
    words: list[str], block_size: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary.of(LETTERS)
    contexts = build_contexts(words, vocabulary, block_size)

    result = distinct(contexts)

    rows = [tuple(row) for row in result.inputs.tolist()]
    assert rows == sorted(set(rows))
    counted = {
        (rows[context], target): count
        for context, target, count in zip(
            result.pair_context.tolist(),
            result.pair_target.tolist(),
            result.pair_count.tolist(),
            strict=True,
        )
    }
    assert counted == pairs(contexts)
    assert len(counted) == len(result.pair_count)
    assert result.n_examples == len(contexts) == result.pair_count.sum()
    shuffled = distinct(build_contexts(data.draw(st.permutations(words)), vocabulary, block_size))
    for name in ("inputs", "pair_context", "pair_target", "pair_count"):
        assert torch.equal(getattr(shuffled, name), getattr(result, name))


@settings(deadline=None)
@given(words=WORDS, block_size=st.integers(1, 12), data=st.data())
def test_shorter_contexts_are_the_ends_of_longer_ones(
    words: list[str], block_size: int, data: st.DataObject
) -> None:
    vocabulary = Vocabulary.of(LETTERS)
    longest = build_contexts(words, vocabulary, block_size)
    shorter = data.draw(st.integers(1, block_size))
    expected = build_contexts(words, vocabulary, shorter)

    contexts = longest.narrowed(shorter)
    counted, rows_P = distinct(longest).narrowed(shorter)

    assert torch.equal(contexts.inputs, expected.inputs)
    assert contexts.targets is longest.targets
    assert contexts.inputs.untyped_storage().data_ptr() == (
        longest.inputs.untyped_storage().data_ptr()
    )
    for name in ("inputs", "pair_context", "pair_target", "pair_count"):
        assert torch.equal(getattr(counted, name), getattr(distinct(expected), name))
    assert counted.n_examples == len(expected)
    pair_target = distinct(longest).pair_target
    assert torch.equal(counted.pair_target[rows_P], pair_target)


def test_distinct_pairs_of_a_large_vocabulary_do_not_collide() -> None:
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(0, 5000, (400, 10), generator=generator, dtype=torch.int32)
    some[:, 3:9] = some[0, 3:9]  # rows that differ at their ends alone
    inputs = some[torch.randint(0, 400, (3000,), generator=generator)]
    targets = torch.randint(0, 3, (3000,), generator=generator) + 4997
    contexts = Contexts(inputs=inputs, targets=targets)

    result = distinct(contexts)

    assert len(result.inputs) == len({row for row, _ in pairs(contexts)})
    assert len(result.pair_count) == len(pairs(contexts))
    rows = list(zip(result.pair_context.tolist(), result.pair_target.tolist(), strict=True))
    assert rows == sorted(set(rows))
    for context, target, count in zip(*zip(*rows, strict=True), result.pair_count, strict=True):
        here = (inputs == result.inputs[context]).all(dim=1) & (targets == target)
        assert here.sum() == count


@pytest.mark.parametrize("block_size", [1, 3, 8])
def test_reference_examples_are_those_of_the_article(
    reference: Corpus, reference_split: Split, block_size: int
) -> None:
    split = reference_split
    claim = Claim(model_sha256="0" * 64, split_fingerprint=split.fingerprint)
    parts = (split.train, split.dev, split.test.open(claim), reference.words)

    sizes = [len(build_contexts(part, reference.vocabulary, block_size)) for part in parts]

    assert sizes == [182_625, 22_655, 22_866, 228_146]


def test_reference_contexts_are_those_of_the_plain_loop(reference: Corpus) -> None:
    inputs, targets = naive(reference.words, reference.vocabulary, 3)

    contexts = build_contexts(reference.words, reference.vocabulary, 3)

    assert torch.equal(contexts.inputs, torch.tensor(inputs, dtype=torch.int32))
    assert torch.equal(contexts.targets, torch.tensor(targets))
