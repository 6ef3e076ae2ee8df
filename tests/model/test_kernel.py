"""The steps are those of autograd and `torch.optim`, in any cut and precision."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmsearch.model.kernel import Kernel
from mmsearch.model.minibatches import Minibatches
from mmsearch.model.mlp import Parameters, forward, loss
from tests.support.specs import make_parameters

SHAPES = [
    (27, 2, 100, 3, 32),
    (27, 10, 16, 8, 4),
    (5, 1, 1, 1, 1),
    (3, 4, 7, 2, 9),
    (2, 3, 5, 1, 64),
]
"""(V, D, H, T, B)"""
DECAYS = [0.0, 0.1]
TABLES = [False, True]
F64 = torch.float64


@dataclass(frozen=True)
class Batches:
    """Minibatches for a few steps."""

    inputs: Tensor
    """(S, B, T)"""
    targets: Tensor
    """(S, B)"""
    rates: list[float]

    def minibatches(self, vocab_size: int) -> Minibatches:
        """Make what the kernel takes."""
        return Minibatches.of_examples(self.inputs, self.targets, vocab_size)


def draw(
    n_steps: int, vocab_size: int, block_size: int, batch_size: int, *, repeated: bool = False
) -> Batches:
    """Draw minibatches; with `repeated`, of one id alone."""
    g = torch.Generator().manual_seed(n_steps)
    inputs = torch.randint(vocab_size, (n_steps, batch_size, block_size), generator=g)
    targets = torch.randint(vocab_size, (n_steps, batch_size), generator=g)
    if repeated:
        inputs = torch.full_like(inputs, vocab_size - 1)
    return Batches(inputs, targets, [0.3 / (1 + step) for step in range(n_steps)])


def autograd_sgd(
    parameters: Parameters, batches: Batches, weight_decay: float
) -> tuple[Parameters, Tensor]:
    """Train as any PyTorch tutorial does; weight decay on the matrices alone."""
    tensors = parameters.map(lambda t: t.clone().requires_grad_())
    losses = []
    steps = zip(batches.inputs, batches.targets, batches.rates, strict=True)
    for inputs_BT, targets_B, rate in steps:
        mean = functional.cross_entropy(forward(tensors, inputs_BT), targets_B)
        losses.append(mean.detach())
        gradients = torch.autograd.grad(mean, list(tensors.named().values()))
        with torch.no_grad():
            for tensor, gradient in zip(tensors.named().values(), gradients, strict=True):
                decay = weight_decay if tensor.dim() == 2 else 0.0
                tensor.sub_(rate * (gradient + decay * tensor))
    return tensors.map(Tensor.detach), torch.stack(losses)


def run(
    parameters: Parameters,
    batches: Batches,
    weight_decay: float = 0.0,
    *,
    has_table: bool | None = None,
) -> tuple[Parameters, Tensor]:
    """Train by the kernel."""
    kernel = Kernel(
        parameters,
        batch_size=batches.targets.shape[1],
        weight_decay=weight_decay,
        has_table=has_table,
    )
    losses = kernel.steps(batches.minibatches(len(parameters.C)), batches.rates)
    return kernel.parameters, losses


def torch_adam(
    parameters: Parameters, drawn: Minibatches, rates: list[float], weight_decay: float
) -> Parameters:
    """Train distributions of next characters by autograd and `torch.optim.AdamW`."""
    tensors = parameters.map(lambda t: t.clone().requires_grad_())
    named = tensors.named().values()
    groups = [
        {"params": [t for t in named if t.dim() == 2], "weight_decay": weight_decay},
        {"params": [t for t in named if t.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups)
    pieces = drawn.sizes.tolist()
    positions = torch.split(drawn.positions, pieces)
    weights = torch.split(drawn.weights, pieces)
    for inputs_BT, at, share, rate in zip(drawn.inputs, positions, weights, rates, strict=True):
        log_p = functional.log_softmax(forward(tensors, inputs_BT), 1).view(-1)
        optimizer.zero_grad()
        (-(share * log_p[at]).sum() / len(inputs_BT)).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return tensors.map(Tensor.detach)


def assert_close(ours: Parameters, theirs: Parameters, tolerance: float) -> None:
    """Compare tensor by tensor."""
    for name, tensor in ours.named().items():
        gap = (tensor - theirs.named()[name]).abs().max()
        assert float(gap) <= tolerance, name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay", DECAYS)
@pytest.mark.parametrize("has_table", TABLES)
def test_steps_are_those_of_autograd(
    shape: tuple[int, int, int, int, int], weight_decay: float, *, has_table: bool
) -> None:
    vocab_size, embedding_dim, hidden_width, block_size, batch_size = shape
    start = make_parameters(vocab_size, embedding_dim, hidden_width, block_size, dtype=F64)
    for n_steps, repeated in ((1, True), (25, False)):
        batches = draw(n_steps, vocab_size, block_size, batch_size, repeated=repeated)

        ours, our_losses = run(start, batches, weight_decay, has_table=has_table)
        theirs, their_losses = autograd_sgd(start, batches, weight_decay)

        assert_close(ours, theirs, 1e-10)
        assert torch.allclose(our_losses, their_losses, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay", DECAYS)
@pytest.mark.parametrize("has_table", TABLES)
def test_adam_on_distributions_is_torchs(
    shape: tuple[int, int, int, int, int], weight_decay: float, *, has_table: bool
) -> None:
    vocab_size, embedding_dim, hidden_width, block_size, batch_size = shape
    start = make_parameters(vocab_size, embedding_dim, hidden_width, block_size, dtype=F64)
    generator = torch.Generator().manual_seed(5)
    shares = torch.rand(12, batch_size, vocab_size, generator=generator, dtype=F64)
    drawn = Minibatches(
        inputs=torch.randint(vocab_size, (12, batch_size, block_size), generator=generator),
        positions=torch.arange(batch_size * vocab_size).repeat(12),
        weights=(shares / shares.sum(2, keepdim=True)).view(-1),
        sizes=torch.full((12,), batch_size * vocab_size),
    )
    rates = [0.02 / (1 + step) for step in range(12)]

    kernel = Kernel(
        start,
        batch_size=batch_size,
        weight_decay=weight_decay,
        optimizer="adam",
        has_table=has_table,
    )
    kernel.steps(drawn, rates)

    assert_close(kernel.parameters, torch_adam(start, drawn, rates, weight_decay), 1e-9)


def test_losses_are_those_before_each_update() -> None:
    start = make_parameters(27, 4, 16, 3, dtype=F64)
    batches = draw(2, 27, 3, 32)
    after_one, _ = run(start, Batches(batches.inputs[:1], batches.targets[:1], [0.3]))

    _, losses = run(start, batches)

    assert losses.shape == (2,)
    for step, parameters in enumerate((start, after_one)):
        before = loss(parameters, batches.inputs[step], batches.targets[step])
        assert float(losses[step]) == pytest.approx(float(before), abs=1e-12)


def test_float32_stays_close_to_float64() -> None:
    start = make_parameters(27, 10, 64, 3, dtype=F64)
    batches = draw(200, 27, 3, 32)

    exact, exact_losses = run(start, batches, 1e-3)
    rounded, rounded_losses = run(start.map(Tensor.float), batches, 1e-3)

    assert all(tensor.dtype == torch.float32 for tensor in rounded.named().values())
    assert_close(rounded.map(Tensor.double), exact, 1e-4)
    assert torch.allclose(rounded_losses.double(), exact_losses, rtol=0, atol=1e-4)


def test_split_calls_change_no_bit() -> None:
    start = make_parameters(27, 4, 16, 3)
    batches = draw(10, 27, 3, 8)
    whole, _ = run(start, batches, 0.01)

    kernel = Kernel(start, batch_size=8, weight_decay=0.01)
    drawn = batches.minibatches(27)
    for steps in (slice(0, 1), slice(1, 4), slice(4, 10)):
        kernel.steps(drawn.part(steps), batches.rates[steps])

    for name, tensor in whole.named().items():
        assert torch.equal(tensor, kernel.parameters.named()[name])


def test_given_parameters_are_not_changed() -> None:
    start = make_parameters(27, 4, 16, 3)
    kept = start.map(torch.clone)

    run(start, draw(5, 27, 3, 8), 0.1)

    for name, tensor in start.named().items():
        assert torch.equal(tensor, kept.named()[name])


@pytest.mark.parametrize("n_rates", [0, 2, 4])
def test_rates_must_match_the_steps(n_rates: int) -> None:
    batches = draw(3, 27, 3, 8)

    with pytest.raises(ValueError, match="zip"):
        run(
            make_parameters(27, 4, 16, 3), Batches(batches.inputs, batches.targets, [0.1] * n_rates)
        )
