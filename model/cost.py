"""What a training step costs by its shape: the clock of a search's virtual time.

A cost is a whole number of nanoseconds, so that every machine computes the same one. The table was
measured by `bench/cost.py`; only ratios matter, and they need not be exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mmsearch.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.model.spec import TrialSpec

CostTable: TypeAlias = "Mapping[str, Mapping[str, int]]"
"""For each optimizer, femtoseconds for each unit of a term of `step_ns`."""

COSTS: CostTable = {
    "sgd": {"step": 120_000_000_000, "inputs": 0, "products": 102_000, "hidden": 2_220_000},
    "adam": {"step": 974_000_000_000, "inputs": 519_000, "products": 5_280, "hidden": 8_910_000},
}
"""The costs that new studies are started with."""


def step_ns(costs: CostTable, spec: TrialSpec, vocab_size: int) -> int:
    """Return the cost of one training step in nanoseconds, at least 1.

    Args:
        costs: the table that the study was started with.
        spec: the trial's spec.
        vocab_size: number of characters (V).
    """
    terms = cost_terms(spec, vocab_size)
    table = costs[spec.optimizer]
    return 1 + sum(table[name] * n for name, n in terms.items()) // 1_000_000


def check_costs(costs: CostTable) -> None:
    """Check a table that was read from a file.

    Raises:
        InputError: it is not one that `step_ns` can use.
    """
    for optimizer, table in COSTS.items():
        found = costs.get(optimizer) if isinstance(costs, dict) else None
        if not isinstance(found, dict) or found.keys() != table.keys():
            raise InputError(f"costs lack those of {optimizer}")
        if not all(type(cost) is int and cost >= 0 for cost in found.values()):
            raise InputError("costs must be non-negative whole numbers")


def cost_terms(spec: TrialSpec, vocab_size: int) -> dict[str, int]:
    """Return what a step consists of, as numbers of units.

    Returns:
        `step`: one; `inputs`: embedded values, B T D; `products`: multiplications of both layers,
        B H (T D + V); `hidden`: activations, B H.
    """
    batch, hidden = spec.batch_size, spec.hidden_width
    inputs = spec.block_size * spec.embedding_dim
    return {
        "step": 1,
        "inputs": batch * inputs,
        "products": batch * hidden * (inputs + vocab_size),
        "hidden": batch * hidden,
    }
