"""Contexts: those of the article's loop, and their distinct pairs with counts."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.contexts import Contexts, DistinctContexts, build_contexts, distinct
from mmsearch.data.corpus import Corpus, Vocabulary
from mmsearch.data.split import Claim, Split
from mmsearch.errors import InputError

# Latin, accented, CJK and astral letters: one to four bytes each in UTF-8.
LETTERS = "abcxyzéß中文さ𐐷𐐲🜚"
VOCABULARY = Vocabulary.of(LETTERS)
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=12) | st.text(LETTERS, max_size=2))


def naive(
    words: Sequence[str], vocabulary: Vocabulary, block_size: int
) -> tuple[list[list[int]], list[int]]:
    """Build contexts as the article does, one character at a time."""
    inputs, targets = [], []
    for word in words:
        context = [0] * block_size
        for character in word + ".":
            ix = vocabulary.stoi[character]
            inputs.append(context)
            targets.append(ix)
            context = [*context[1:], ix]
    return inputs, targets


def counted(found: DistinctContexts) -> Counter[tuple[tuple[int, ...], int]]:
    """Count (context, target) pairs, after checking that contexts and pairs are sorted sets."""
    contexts = [tuple(row) for row in found.inputs.tolist()]
    assert contexts == sorted(set(contexts))
    pairs = list(zip(found.pair_context.tolist(), found.pair_target.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    counts = found.pair_count.tolist()
    return Counter({(contexts[c], t): n for (c, t), n in zip(pairs, counts, strict=True)})


def pairs(contexts: Contexts) -> Counter[tuple[tuple[int, ...], int]]:
    """Count (context, target) pairs without tensor operations."""
    rows = zip(contexts.inputs.tolist(), contexts.targets.tolist(), strict=True)
    return Counter((tuple(context), target) for context, target in rows)


def assert_equal(found: DistinctContexts, expected: DistinctContexts) -> None:
    for name in ("inputs", "pair_context", "pair_target", "pair_count"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.n_examples == expected.n_examples


def test_first_name_reads_as_in_the_article() -> None:
    vocabulary = Vocabulary.of(["emma"])

    contexts = build_contexts(["emma"], vocabulary, 3)

    shown = ["".join(vocabulary.itos[i] for i in row) for row in contexts.inputs.tolist()]
    assert shown == ["...", "..e", ".em", "emm", "mma"]
    assert [vocabulary.itos[i] for i in contexts.targets.tolist()] == list("emma.")


@given(words=WORDS, block_size=st.integers(1, 15), data=st.data())
def test_contexts_are_those_of_the_plain_loop(
    words: list[str], block_size: int, data: st.DataObject
) -> None:
    inputs, targets = naive(words, VOCABULARY, block_size)

    contexts = build_contexts(words, VOCABULARY, block_size)
    found = distinct(contexts)

    assert contexts.inputs.shape == (len(targets), block_size)
    assert (contexts.inputs.tolist(), contexts.targets.tolist()) == (inputs, targets)
    assert (contexts.inputs.dtype, contexts.targets.dtype) == (torch.int32, torch.int64)
    assert len(contexts) == sum(len(word) + 1 for word in words) == found.n_examples
    assert contexts.block_size == found.inputs.shape[1] == block_size
    assert counted(found) == pairs(contexts)
    shuffled = data.draw(st.permutations(words))
    assert_equal(distinct(build_contexts(shuffled, VOCABULARY, block_size)), found)


@given(words=WORDS, block_size=st.integers(1, 12), data=st.data())
def test_narrowed_contexts_are_those_of_the_smaller_block_size(
    words: list[str], block_size: int, data: st.DataObject
) -> None:
    """A worker narrows its longest contexts, and neither copies nor builds them anew."""
    longest = build_contexts(words, VOCABULARY, block_size)
    shorter = data.draw(st.integers(1, block_size))
    expected = build_contexts(words, VOCABULARY, shorter)

    contexts = longest.narrowed(shorter)
    found, rows_P = distinct(longest).narrowed(shorter)

    assert torch.equal(contexts.inputs, expected.inputs)
    assert contexts.targets is longest.targets
    storages = {each.inputs.untyped_storage().data_ptr() for each in (contexts, longest)}
    assert len(storages) == 1
    assert_equal(found, distinct(expected))
    assert torch.equal(found.pair_target[rows_P], distinct(longest).pair_target)


def test_pairs_that_do_not_fit_into_64_bits_do_not_collide() -> None:
    """A context of ten out of 5,000 characters has no number of 64 bits."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(0, 5000, (400, 10), generator=generator, dtype=torch.int32)
    some[:, 3:9] = some[0, 3:9]  # rows that differ at their ends alone
    inputs = some[torch.randint(0, 400, (3000,), generator=generator)]
    targets = torch.randint(0, 3, (3000,), generator=generator) + 4997
    contexts = Contexts(inputs=inputs, targets=targets)

    assert counted(distinct(contexts)) == pairs(contexts)


@pytest.mark.parametrize(
    ("word", "block_size", "named"),
    [
        ("ab", 0, "got 0"),
        ("ab", -1, "got -1"),
        *((f"b{c}", 3, rf"U\+{ord(c):04X}") for c in "éA🜚\ud800"),
        ("a.b", 3, r"'a\.b'"),
    ],
)
def test_what_has_no_contexts_is_refused_by_name(word: str, block_size: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build_contexts(["ab", word], Vocabulary.of(["ab", "z"]), block_size)


@pytest.mark.parametrize("block_size", [1, 3, 8])
def test_reference_examples_are_those_of_the_article(
    reference: Corpus, reference_split: Split, block_size: int
) -> None:
    split = reference_split
    claim = Claim(model_sha256="0" * 64, split_fingerprint=split.fingerprint)
    parts = (split.train, split.dev, split.test.open(claim), reference.words)

    built = [build_contexts(part, reference.vocabulary, block_size) for part in parts]

    assert [len(each) for each in built] == [182_625, 22_655, 22_866, 228_146]
    if block_size == 3:
        inputs, targets = naive(reference.words, reference.vocabulary, 3)
        assert torch.equal(built[3].inputs, torch.tensor(inputs, dtype=torch.int32))
        assert torch.equal(built[3].targets, torch.tensor(targets))
