"""How torch computes in every process that trains or scores."""

from __future__ import annotations

import torch


def fix_arithmetic() -> None:
    """Make torch compute with one thread, and round subnormal numbers to 0, in this thread.

    With several threads torch's first tanh is off by up to 1e-4, and a step is too small for two.
    A network that is certain of its characters, as one with the article's start is, has many
    probabilities below 1e-38, where most processors compute ten times more slowly.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
