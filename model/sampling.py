"""Sampling of new words from a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mmsearch.errors import InputError
from mmsearch.model.mlp import forward

if TYPE_CHECKING:
    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.mlp import Parameters

ARTICLE_SEED = 2147483647 + 10
"""The seed with which makemore samples."""
MAX_LENGTH = 100
"""Characters after which a word is cut, since a degenerate model may never end it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled word."""

    word: str
    is_cut: bool = False
    """Whether the length limit ended the word."""


@torch.inference_mode()
def sample_words(  # noqa: PLR0913 (each is one knob of `mmsearch sample`)
    parameters: Parameters,
    vocabulary: Vocabulary,
    n_words: int = 20,
    *,
    seed: int = ARTICLE_SEED,
    prefix: str = "",
    temperature: float = 1.0,
    max_length: int = MAX_LENGTH,
) -> list[Sample]:
    """Sample words as makemore does.

    Args:
        parameters: the model, of any float dtype.
        vocabulary: the model's vocabulary.
        n_words: number of words.
        seed: seed of the draws.
        prefix: start of every word.
        temperature: divides the logits; below 1, likely characters become likelier.
        max_length: characters after which a word is cut.

    Raises:
        InputError: the prefix has a character that is not in the vocabulary, or the boundary, or
            a number is out of range.
    """
    if n_words < 1:
        raise InputError(f"the number of words must be at least 1, got {n_words}")
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature must be above 0, got {temperature}")
    if not 0 <= seed < 2**63:
        raise InputError(f"the seed must be between 0 and 2**63 - 1, got {seed}")
    if max_length < 1:
        raise InputError(f"the longest word must have at least 1 character, got {max_length}")
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    generator = torch.Generator().manual_seed(seed)
    prefix_ids = vocabulary.encode(prefix)
    if 0 in prefix_ids:
        boundary = vocabulary.characters[0]
        raise InputError(
            f"a prefix must not contain the word boundary {boundary!r}, got {prefix!r}"
        )
    samples = []
    for _ in range(n_words):
        ids = list(prefix_ids)
        context = ([0] * block_size + ids)[-block_size:]
        while len(ids) < max_length:
            logits_V = forward(parameters, torch.tensor([context]))[0]
            # At most zero and in float64, so that no temperature overflows.
            scaled_V = (logits_V - logits_V.max()).double() / temperature
            p_V = torch.softmax(scaled_V, 0).to(logits_V.dtype)
            drawn = torch.multinomial(p_V, 1, generator=generator)
            next_id = int(drawn)
            if next_id == 0:
                break
            ids.append(next_id)
            context = [*context[1:], next_id]
        is_cut = len(ids) >= max_length
        samples.append(Sample("".join(vocabulary.characters[i] for i in ids), is_cut))
    return samples
