"""Ordinary figures to look at, and what can be read in one."""

import math
import string

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from mmsearch.tracking.figures.loss_curve import loss_curve

CHARACTERS = [".", *string.ascii_lowercase]
WHOLE = {"embedding_dim": 10, "hidden_width": 200, "block_size": 3, "learning_rate": 0.2}


def make_curve() -> Figure:
    """Draw a curve of 200 train and 10 dev points."""
    train = [(step, 2.0 + math.exp(-step / 300)) for step in range(0, 2000, 10)]
    dev = [(step, 2.1 + math.exp(-step / 300)) for step in range(200, 2001, 200)]
    rates = [(step, 0.1 * (1 - step / 2000)) for step in range(0, 2000, 10)]
    return loss_curve(train, dev, rates, title="names, trial 7")


def make_embedding(n_dims: int, n_rows: int = len(CHARACTERS)) -> np.ndarray:
    """Make rows with some structure, float64, shape (n_rows, n_dims)."""
    return np.random.default_rng(n_dims).normal(size=(n_rows, n_dims)) * np.arange(1, n_dims + 1)


def make_rows(n: int) -> list[tuple[dict[str, float], float]]:
    """Make n trials of four hyperparameters."""
    return [({**WHOLE, "learning_rate": 10.0 ** (-1 - i / n)}, 2.0 + 0.01 * i) for i in range(n)]


def texts(figure: Figure) -> list[str]:
    """Every piece of text in the figure."""
    return [t.get_text() for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text()]


def legend(figure: Figure) -> list[str]:
    """Labels in the legend of the figure's first axes."""
    found = figure.axes[0].get_legend()
    return [] if found is None else [t.get_text() for t in found.get_texts()]


def title(figure: Figure) -> str:
    """Title of the figure's first axes."""
    return figure.axes[0].get_title(loc="left")
