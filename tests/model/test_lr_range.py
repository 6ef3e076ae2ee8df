"""The learning-rate range test: its steps are SGD's, and its suggestion is the valley."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.data.contexts import Contexts
from mmsearch.model import lr_range, mlp
from mmsearch.model.lr_range import Valley, range_losses, rates, smoothed, valley
from mmsearch.model.minibatches import Examples, Minibatches
from mmsearch.model.training import MAX_IDS_AT_ONCE
from tests.support.specs import make_spec

V = 5


@pytest.fixture
def train() -> Examples:
    """Draw examples without a pattern."""
    generator = torch.Generator().manual_seed(1)
    contexts = Contexts(
        inputs=torch.randint(V, (50, 3), generator=generator),
        targets=torch.randint(V, (50,), generator=generator),
    )
    return Examples(contexts, V)


def test_rates_are_evenly_spaced_on_a_log_scale() -> None:
    found = rates(1e-3, 1.0, 1000)
    assert found[0] == pytest.approx(1e-3)
    assert found[-1] == pytest.approx(1.0)
    assert np.diff(np.log(found)) == pytest.approx(np.full(999, np.log(1000) / 999))


def test_steps_are_those_of_plain_sgd(train: Examples) -> None:
    spec = make_spec(weight_decay=0.01)
    learning_rates = rates(0.01, 0.5, 30)
    found = range_losses(spec, learning_rates, train, vocab_size=V)

    generator = torch.Generator().manual_seed(spec.seed)
    parameters = mlp.init_parameters(spec, V, generator).map(lambda p: p.requires_grad_())
    chosen = torch.randint(len(train.contexts), (30, spec.batch_size), generator=generator)
    expected = []
    for rows, rate in zip(chosen, learning_rates.tolist(), strict=True):
        loss = mlp.loss(parameters, train.contexts.inputs[rows], train.contexts.targets[rows])
        expected.append(loss.item())
        named = parameters.named()
        gradients = torch.autograd.grad(loss, list(named.values()))
        with torch.no_grad():
            for (name, tensor), gradient in zip(named.items(), gradients, strict=True):
                decay = spec.weight_decay if name in {"C", "W1", "W2"} else 0.0
                tensor.sub_(rate * (gradient + decay * tensor))
    assert found == pytest.approx(expected, abs=1e-5)


@dataclass
class Watched:
    """A source that keeps how many contexts were drawn at once."""

    source: Examples
    drawn: list[int] = field(default_factory=list)

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
        self.drawn.append(n_steps * batch_size)
        return self.source.draw(n_steps, batch_size, generator)

    def narrowed(self, block_size: int) -> Watched:
        """Watch the narrower source."""
        return Watched(self.source.narrowed(block_size))


@pytest.mark.parametrize("batch_size", [8, 1000, MAX_IDS_AT_ONCE // 9, 1_000_000])
def test_memory_does_not_grow_with_the_steps(train: Examples, batch_size: int) -> None:
    watched = Watched(train)
    range_losses(
        make_spec(batch_size=batch_size, embedding_dim=1, hidden_width=1),
        rates(0.01, 0.5, 4),
        watched,
        vocab_size=V,
    )
    assert sum(watched.drawn) == 4 * batch_size
    assert max(watched.drawn) * watched.n_ids <= max(MAX_IDS_AT_ONCE, batch_size * watched.n_ids)


def test_pieces_give_the_losses_of_one_draw(
    train: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, learning_rates = make_spec(), rates(0.01, 0.5, 30)
    whole = range_losses(spec, learning_rates, train, vocab_size=V)
    monkeypatch.setattr(lr_range, "MAX_IDS_AT_ONCE", 7 * spec.batch_size * train.n_ids)
    watched = Watched(train)
    assert (range_losses(spec, learning_rates, watched, vocab_size=V) == whole).all()
    assert len(watched.drawn) == 5


def test_loss_stays_infinite_once_it_has_diverged(train: Examples) -> None:
    found = range_losses(make_spec(), rates(0.1, 1e6, 40), train, vocab_size=V)
    is_lost = np.isinf(found)
    assert is_lost.any()
    assert not is_lost[0]
    assert (np.diff(is_lost.astype(int)) >= 0).all()
    assert not np.isnan(found).any()


@given(st.integers(1, 3), st.integers(20, 60), st.integers(0, 59), st.integers(0, 2**32 - 1))
def test_moving_mean_is_the_mean_of_its_window(
    n_seeds: int, n_steps: int, n_lost: int, seed: int
) -> None:
    losses = np.random.default_rng(seed).uniform(1, 5, (n_seeds, n_steps))
    losses[0, max(1, n_steps - n_lost) :] = np.inf
    half = max(1, round(0.05 * n_steps)) // 2
    expected = [
        [row[max(0, i - half) : i + half + 1].mean() for i in range(n_steps)] for row in losses
    ]
    assert smoothed(losses) == pytest.approx(np.array(expected))


def test_valley_is_found_where_it_was_put() -> None:
    learning_rates = rates(1e-3, 1.0, 3001)
    typical = 2 + np.minimum(1, np.abs(np.log10(learning_rates) + 1))
    found = valley(learning_rates, np.stack([typical - 0.1, typical, typical + 0.3]))
    assert found is not None
    assert found.best == pytest.approx(0.1, rel=0.01)
    assert found.best_loss == pytest.approx(2, abs=0.05)
    # Rounded outward to two digits; the moving mean has blunted the tip.
    assert 0.065 <= found.low <= 0.080
    assert 0.12 <= found.high <= 0.16


def test_one_seed_that_diverges_does_not_decide() -> None:
    learning_rates = rates(1e-3, 1.0, 1000)
    typical = 2 + np.abs(np.log10(learning_rates) + 1)
    lost = np.where(np.arange(1000) < 100, typical, np.inf)
    assert valley(learning_rates, np.stack([typical, lost, typical])) == valley(
        learning_rates, np.stack([typical, typical, typical])
    )


def test_dip_beyond_a_ridge_is_not_of_the_valley() -> None:
    learning_rates = rates(1e-3, 1.0, 1000)
    typical = np.full(1000, 3.0)
    typical[200:400], typical[700:900] = 2.05, 2.0
    found = valley(learning_rates, typical[None])
    assert found is not None
    assert found.low > learning_rates[650]


@given(st.floats(1e-8, 1e3), st.floats(1.5, 100), st.integers(20, 200))
def test_suggestion_holds_the_lowest_and_rises(low: float, factor: float, n_steps: int) -> None:
    learning_rates = rates(low, low * factor, n_steps)
    losses = 2 + np.linspace(-1, 1, n_steps) ** 2
    found = valley(learning_rates, losses[None])
    assert isinstance(found, Valley)
    assert found.low <= found.best <= found.high
    assert found.low < found.high
