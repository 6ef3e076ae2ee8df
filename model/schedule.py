"""The learning-rate schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmsearch.model.spec import TrialSpec

FLAT_SHARE = 0.4
"""Share of the steps before the cosine starts to fall; compared in docs/log.md."""


def learning_rates(spec: TrialSpec, start: int, stop: int) -> np.ndarray:
    """Return the learning rates of steps `start` to `stop - 1` (counted from 0), float64.

    `cosine` is flat for `FLAT_SHARE` of the steps and then follows half a cosine to zero
    (Loshchilov and Hutter, 2017, eq. 5, without restarts); `step` multiplies the rate by
    `spec.cut_factor` after the share `spec.cut_at` of the steps; makemore cuts it to a tenth after
    100,000 of 200,000.
    """
    done = np.arange(start, stop, dtype=np.float64) / spec.n_steps
    if spec.schedule == "constant":
        factor = np.ones_like(done)
    elif spec.schedule == "step":
        factor = np.where(done < spec.cut_at, 1.0, spec.cut_factor)
    else:
        fallen = np.clip((done - FLAT_SHARE) / (1 - FLAT_SHARE), 0, 1)
        factor = 0.5 * (1 + np.cos(np.pi * fallen))
    return spec.learning_rate * factor
