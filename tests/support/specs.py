"""Small trials and parameters."""

from typing import Any

import torch

from mmsearch.model.mlp import Parameters
from mmsearch.model.spec import TrialSpec

ARTICLE_SEED = 2147483647

_DEFAULTS: dict[str, Any] = {
    "embedding_dim": 3,
    "hidden_width": 8,
    "block_size": 3,
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "seed": 7,
    "n_steps": 60,
    "n_segments": 3,
    "batch_size": 8,
    "init": "scaled",
    "schedule": "cosine",
    "averaging": "none",
}


def make_spec(**changes: Any) -> TrialSpec:
    """Make a trial that takes milliseconds, with some changes."""
    return TrialSpec(**(_DEFAULTS | changes))


def make_parameters(  # noqa: PLR0913 (four sizes, and how)
    vocab_size: int,
    embedding_dim: int,
    hidden_width: int,
    block_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Parameters:
    """Draw parameters whose tanh is neither flat nor linear."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return 0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return Parameters(
        C=draw(vocab_size, embedding_dim),
        W1=draw(block_size * embedding_dim, hidden_width),
        b1=draw(hidden_width),
        W2=draw(hidden_width, vocab_size),
        b2=draw(vocab_size),
    )
