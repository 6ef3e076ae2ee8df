"""The hand-written training step against autograd and `torch.optim`."""

import pytest
import torch

from mmsearch.model.kernel import Kernel
from mmsearch.model.minibatches import Minibatches
from mmsearch.model.mlp import Parameters
from mmsearch.model.spec import Optimizer
from tests.support.plain_training import train_plainly
from tests.support.specs import make_parameters

SHAPES = [
    (27, 2, 100, 3, 32),
    (27, 10, 16, 8, 4),
    (5, 1, 1, 1, 1),
    (3, 4, 7, 2, 9),
    (2, 3, 5, 1, 64),
]
"""(V, D, H, T, B)"""


def draw(
    n_steps: int, vocab_size: int, block_size: int, batch_size: int, kind: str = "examples"
) -> Minibatches:
    """Draw minibatches of examples, of examples of one id alone, or of whole distributions."""
    g = torch.Generator().manual_seed(n_steps)
    inputs = torch.randint(vocab_size, (n_steps, batch_size, block_size), generator=g)
    if kind == "distributions":
        shares = torch.rand(n_steps, batch_size, vocab_size, generator=g, dtype=torch.float64)
        return Minibatches(
            inputs=inputs,
            positions=torch.arange(batch_size * vocab_size).repeat(n_steps),
            weights=(shares / shares.sum(2, keepdim=True)).view(-1),
            sizes=torch.full((n_steps,), batch_size * vocab_size),
        )
    targets = torch.randint(vocab_size, (n_steps, batch_size), generator=g)
    if kind == "one id":
        inputs = torch.full_like(inputs, vocab_size - 1)
    return Minibatches.of_examples(inputs, targets, vocab_size)


def assert_close(ours: Parameters, theirs: Parameters, tolerance: float) -> None:
    for name, tensor in ours.named().items():
        gap = (tensor - theirs.named()[name]).abs().max()
        assert float(gap) <= tolerance, name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("has_table", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("kind", "n_steps"), [("one id", 1), ("examples", 25), ("distributions", 12)]
)
def test_steps_and_losses_are_those_of_autograd_and_torch_optim(  # noqa: PLR0913, PLR0917
    shape: tuple[int, int, int, int, int],
    weight_decay: float,
    has_table: bool,  # noqa: FBT001
    optimizer: Optimizer,
    kind: str,
    n_steps: int,
) -> None:
    vocab_size, embedding_dim, hidden_width, block_size, batch_size = shape
    start = make_parameters(
        vocab_size, embedding_dim, hidden_width, block_size, dtype=torch.float64
    )
    drawn = draw(n_steps, vocab_size, block_size, batch_size, kind)
    rates = [(0.3 if optimizer == "sgd" else 0.02) / (1 + step) for step in range(n_steps)]

    kernel = Kernel(
        start,
        batch_size=batch_size,
        weight_decay=weight_decay,
        optimizer=optimizer,
        has_table=has_table,
    )
    losses = kernel.steps(drawn, rates)

    expected, expected_losses = train_plainly(
        start, drawn, rates, weight_decay=weight_decay, optimizer=optimizer
    )
    assert_close(kernel.parameters, expected, 1e-9)
    assert torch.allclose(losses, expected_losses, rtol=0, atol=1e-9)


def test_float32_stays_close_to_float64() -> None:
    """Rounding must not decide between trials that differ in the third digit."""
    start = make_parameters(27, 10, 64, 3, dtype=torch.float64)
    drawn, rates = draw(200, 27, 3, 32), [0.3 / (1 + step) for step in range(200)]
    exact = Kernel(start, batch_size=32, weight_decay=1e-3)
    rounded = Kernel(start.map(torch.Tensor.float), batch_size=32, weight_decay=1e-3)

    exact_losses, losses = exact.steps(drawn, rates), rounded.steps(drawn, rates)

    assert losses.dtype == torch.float32
    assert_close(rounded.parameters.map(torch.Tensor.double), exact.parameters, 1e-4)
    assert torch.allclose(losses.double(), exact_losses, rtol=0, atol=1e-4)


def test_steps_split_over_calls_change_no_bit_and_not_the_given_parameters() -> None:
    start = make_parameters(27, 4, 16, 3)
    kept = start.map(torch.clone)
    drawn, rates = draw(10, 27, 3, 8), [0.3 / (1 + step) for step in range(10)]
    whole, split = (Kernel(start, batch_size=8, weight_decay=0.01) for _ in range(2))

    whole.steps(drawn, rates)
    for steps in (slice(0, 1), slice(1, 4), slice(4, 10)):
        split.steps(drawn.part(steps), rates[steps])

    for name, tensor in whole.parameters.named().items():
        assert torch.equal(tensor, split.parameters.named()[name])
        assert torch.equal(start.named()[name], kept.named()[name])


@pytest.mark.parametrize("n_rates", [0, 2, 4])
def test_rates_of_another_number_of_steps_are_a_bug_of_the_caller(n_rates: int) -> None:
    kernel = Kernel(make_parameters(27, 4, 16, 3), batch_size=8)

    with pytest.raises(ValueError, match="zip"):
        kernel.steps(draw(3, 27, 3, 8), [0.1] * n_rates)
