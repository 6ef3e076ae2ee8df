"""Training as any PyTorch tutorial does it, against which the product's is compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from mmsearch.model.minibatches import Minibatches, Source
from mmsearch.model.mlp import Parameters, forward


def train_plainly(
    start: Parameters,
    drawn: Minibatches,
    rates: Sequence[float],
    *,
    weight_decay: float = 0.0,
    optimizer: str = "sgd",
) -> tuple[Parameters, Tensor]:
    """Train by autograd and `torch.optim`, with weight decay on the matrices alone.

    Returns:
        The parameters, and each step's loss before its update, shape (S,).
    """
    tensors = start.map(lambda t: t.clone().requires_grad_())
    named = tensors.named().values()
    groups = [
        {"params": [t for t in named if t.dim() == 2], "weight_decay": weight_decay},
        {"params": [t for t in named if t.dim() == 1], "weight_decay": 0.0},
    ]
    steps = torch.optim.AdamW(groups) if optimizer == "adam" else torch.optim.SGD(groups)
    sizes = drawn.sizes.tolist()
    pieces = (torch.split(drawn.positions, sizes), torch.split(drawn.weights, sizes))
    losses = []
    for inputs_BT, at, share, rate in zip(drawn.inputs, *pieces, rates, strict=True):
        log_p = functional.log_softmax(forward(tensors, inputs_BT), 1).view(-1)
        loss = -(share * log_p[at]).sum() / len(inputs_BT)
        losses.append(loss.detach())
        steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in steps.param_groups:
            group["lr"] = rate
        steps.step()
    return tensors.map(Tensor.detach), torch.stack(losses)


@dataclass
class Watched:
    """A source that keeps the minibatches that were drawn from it."""

    source: Source
    drawn: list[Minibatches] = field(default_factory=list)

    @property
    def n_ids(self) -> int:
        """As the source's."""
        return self.source.n_ids

    @property
    def n_bytes(self) -> int:
        """As the source's."""
        return self.source.n_bytes

    def draw(self, n_steps: int, batch_size: int, generator: torch.Generator) -> Minibatches:
        """Draw from the source."""
        self.drawn.append(self.source.draw(n_steps, batch_size, generator))
        return self.drawn[-1]

    def narrowed(self, block_size: int) -> "Watched":
        """Watch the narrower source."""
        return Watched(self.source.narrowed(block_size))
