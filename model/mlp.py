"""The character MLP of makemore, part 4 (after Bengio et al., 2003): parameters, forward, loss.

Shape suffixes: B examples, T block_size, D embedding_dim, H hidden_width, V vocab_size, and
K = T * D for the concatenated embeddings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from mmsearch.model.spec import TrialSpec

SCALED_OUTPUT = 0.1
"""Factor of W2 in the scaled initialization, for small logits and a first loss near ln V."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The five tensors of the network, with makemore's names."""

    C: Tensor
    """Embeddings, (V, D)."""
    W1: Tensor
    """Hidden layer, (T * D, H)."""
    b1: Tensor
    """(H,)"""
    W2: Tensor
    """Output layer, (H, V)."""
    b2: Tensor
    """(V,)"""

    def named(self) -> dict[str, Tensor]:
        """Return the tensors by name, in the order C, W1, b1, W2, b2."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def map(self, change: Callable[[Tensor], Tensor]) -> Parameters:
        """Apply `change` to each tensor."""
        return Parameters(*(change(tensor) for tensor in self.named().values()))


def init_parameters(spec: TrialSpec, vocab_size: int, generator: torch.Generator) -> Parameters:
    """Draw the initial parameters, float32, in the order C, W1, b1, W2, b2.

    `article` draws all five from N(0, 1), so that the first loss is near 17 nats. `scaled` keeps
    tanh out of saturation (gain 5/3 over the root of the number of inputs, He et al., 2015) and the
    logits near zero, so that the first loss is near ln V.

    Args:
        spec: sizes and `init`.
        vocab_size: V.
        generator: where the numbers come from.
    """
    n_inputs = spec.block_size * spec.embedding_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    drawn = Parameters(
        C=normal(vocab_size, spec.embedding_dim),
        W1=normal(n_inputs, spec.hidden_width),
        b1=normal(spec.hidden_width),
        W2=normal(spec.hidden_width, vocab_size),
        b2=normal(vocab_size),
    )
    if spec.init == "article":
        return drawn
    return Parameters(
        C=drawn.C,
        W1=drawn.W1 * (5 / 3 / math.sqrt(n_inputs)),
        b1=torch.zeros_like(drawn.b1),
        W2=drawn.W2 * (SCALED_OUTPUT / math.sqrt(spec.hidden_width)),
        b2=torch.zeros_like(drawn.b2),
    )


def forward(parameters: Parameters, inputs_BT: Tensor) -> Tensor:
    """Score every next character.

    Args:
        parameters: any float dtype.
        inputs_BT: ids in [0, V), int32 or int64, shape (B, T); oldest character first.

    Returns:
        Unnormalised log-probabilities, shape (B, V), in the dtype of the parameters.
    """
    emb_BK = parameters.C[inputs_BT].flatten(1)
    h_BH = torch.tanh(emb_BK @ parameters.W1 + parameters.b1)
    return h_BH @ parameters.W2 + parameters.b2


def loss(parameters: Parameters, inputs_BT: Tensor, targets_B: Tensor) -> Tensor:
    """Mean cross-entropy of the next characters, in nats per character; a scalar tensor.

    Args:
        parameters: any float dtype.
        inputs_BT: ids, shape (B, T).
        targets_B: ids, int64, shape (B,).
    """
    return functional.cross_entropy(forward(parameters, inputs_BT), targets_B)
