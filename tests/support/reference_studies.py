"""Studies that tests kill, and what they come to undisturbed."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import plain_settings
from tests.support.assertions import curves
from tests.support.forked_cli import Warm

N_SEGMENTS = 5
PATIENCE_S = 120
"""How long a test waits before it fails."""

CONFIG = f"""
[space]
{plain_settings.SPACE}
embedding_dim = {{{{ low = 2, high = 48, log = true }}}}
block_size = {{{{ low = 2, high = 10 }}}}
hidden_width = {{{{ low = 16, high = 48, log = true }}}}
learning_rate = {{{{ low = 0.1, high = 1e5, log = true }}}}
[training]
{plain_settings.TRAINING}
segments = {{n_segments}}
[search]
{plain_settings.SEARCH}
sampler = "{{sampler}}"
pruner = "{{pruner}}"
"""
"""Some trials diverge, so that failed trials are replaced."""


@dataclass(frozen=True, slots=True)
class Study:
    """Settings of a study."""

    sampler: str
    pruner: str
    n_workers: int
    n_trials: int
    n_steps: int

    def words(self, folder: Path, corpus: Path, n_workers: int | None = None) -> list[object]:
        """Write its config file; returns the arguments of the search."""
        config = folder / "config.toml"
        config.write_text(
            CONFIG.format(n_segments=N_SEGMENTS, sampler=self.sampler, pruner=self.pruner)
        )
        given = ["--corpus", corpus, "--config", config, "--steps", self.n_steps]
        return [*given, "-n", self.n_trials, "--workers", n_workers or self.n_workers]


LONG = Study(sampler="tpe", pruner="halving", n_workers=2, n_trials=30, n_steps=600)
"""Proposals and prunings depend on earlier trials."""
SHORT = dataclasses.replace(LONG, n_trials=6, n_steps=300)
"""Six finished trials, besides those that diverge."""


def undisturbed(study: Study, folder: Path, corpus: Path, warm: Warm) -> dict[int, Any]:
    """Search a study with one worker and without a fault; returns its `curves`."""
    done = warm("run", *study.words(folder, corpus, n_workers=1), folder=folder)
    assert done.returncode == 0, done.stderr
    return curves(folder / "runs", "few")
