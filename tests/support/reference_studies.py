"""Studies that give the same trials and points whenever they are searched."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support import plain_settings
from tests.support.assertions import curves, start

if TYPE_CHECKING:
    from pathlib import Path

N_SEGMENTS = 5
PATIENCE_S = 120
"""After which a test gives up; nothing here takes as long."""

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
"""Some trials diverge, so that a failed one is made up for."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is searched: so that nothing in it follows from who finishes first."""

    sampler: str
    pruner: str
    n_workers: int
    n_trials: int
    n_steps: int

    def words(self, folder: Path, corpus: Path, n_workers: int | None = None) -> list[object]:
        """Write its settings down, and say the line that searches it."""
        config = folder / "config.toml"
        config.write_text(
            CONFIG.format(n_segments=N_SEGMENTS, sampler=self.sampler, pruner=self.pruner)
        )
        given = ["--corpus", corpus, "--config", config, "--steps", self.n_steps]
        return [*given, "-n", self.n_trials, "--workers", n_workers or self.n_workers]


FOLLOWING = Study(sampler="tpe", pruner="halving", n_workers=1, n_trials=30, n_steps=600)
"""Proposals and prunings follow from the trials before: one worker, so that their order is one."""
APART = Study(sampler="random", pruner="none", n_workers=2, n_trials=30, n_steps=600)
"""Each trial follows from its number alone, whatever order two workers finish in."""
SHORT = dataclasses.replace(FOLLOWING, n_trials=6, n_steps=300)
"""Six trials, besides those that diverge."""


def undisturbed(study: Study, folder: Path, corpus: Path) -> dict[int, Any]:
    """Search a study with one worker and without a fault."""
    process = start(folder, *study.words(folder, corpus, n_workers=1))
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    return curves(folder / "runs", "few")
