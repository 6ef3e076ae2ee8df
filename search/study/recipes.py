"""The default settings and search spaces, by recipe.

`recipe = "article"` under `[training]` stands for all keys of that recipe below. Keys given beside
it override it, and a study stores only the resulting keys. docs/log.md has the experiments behind
the default recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RANGES: Mapping[str, Mapping[str, Any]] = {
    "adam": {
        "learning_rate": {"low": 1e-3, "high": 5e-3, "log": True},
        "weight_decay": {"low": 0.02, "high": 3.0, "log": True},
    },
    "sgd": {
        "learning_rate": {"low": 0.02, "high": 1.0, "log": True},
        "weight_decay": {"low": 1e-5, "high": 5e-3, "log": True},
    },
}
"""Default ranges that depend on the optimizer, by its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Default settings and search space of a study."""

    settings: Mapping[str, Any]
    """Settings by name."""
    space: Mapping[str, Any]
    """A complete `[space]` table."""


RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(
        settings={
            "steps": 1_000,
            "segments": 16,
            "batch_size": 512,
            "optimizer": "adam",
            "targets": "contexts",
            "init": "scaled",
            "schedule": "constant",
            "cut_at": 0.5,
            "cut_factor": 0.1,
            "averaging": "polynomial",
            "evaluations": "growing",
            "patience": 3,
            "extend_to": 4.0,
            "start": True,
        },
        space={
            "embedding_dim": {"low": 16, "high": 96, "log": True},
            "hidden_width": {"low": 64, "high": 512, "log": True},
            "block_size": {"low": 3, "high": 10, "log": False},
            **RANGES["adam"],
            "context_noise": {"low": 0.0, "high": 0.5, "log": False},
        },
    ),
    "article": Recipe(
        settings={
            "steps": 60_000,
            "segments": 20,
            "batch_size": 32,
            "optimizer": "sgd",
            "targets": "examples",
            "init": "article",
            "schedule": "step",
            "cut_at": 0.5,
            "cut_factor": 0.1,
            "averaging": "none",
            "evaluations": "even",
            "patience": 0,
            "extend_to": 1.0,
            "start": False,
        },
        space={
            "embedding_dim": {"low": 2, "high": 48, "log": True},
            "hidden_width": {"low": 32, "high": 512, "log": True},
            "block_size": {"low": 2, "high": 10, "log": False},
            "learning_rate": {"low": 0.01, "high": 1.0, "log": True},
            "weight_decay": 0.0,
            "context_noise": 0.0,
        },
    ),
}
"""All recipes, by name."""

START_WORDS = 25_600
"""Number of train words at which the start point has weight decay 0.2 and noise 0.1."""


def start_point(n_words: int) -> dict[str, Any]:
    """Return a configuration of the default recipe's space that suits a number of train words.

    With fewer words a smaller network with more decay and noise is better. The exponents were
    fitted by hand on lists of 300 to 160,000 words (docs/log.md, 2026-11-26).
    """
    ratio = START_WORDS / max(1, n_words)

    def scaled(value: float, power: float, low: float, high: float) -> float:
        return float(f"{min(max(value * ratio**power, low), high):.2g}")

    return {
        "embedding_dim": 64,
        "hidden_width": int(scaled(600, -0.4, 64, 512)),
        "block_size": 8,
        "learning_rate": 2e-3,
        "weight_decay": scaled(0.2, 0.45, 0.05, 1.5),
        "context_noise": scaled(0.1, 0.3, 0.03, 0.4),
    }
