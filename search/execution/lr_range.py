"""The learning-rate range test of `mmsearch lr-range`, its figure and its MLflow run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.counts import counted
from mmsearch.errors import InputError, MMSearchError
from mmsearch.model.arithmetic import fix_arithmetic
from mmsearch.model.lr_range import Valley, range_losses, rates, smoothed, valley
from mmsearch.model.training import TrialData
from mmsearch.search.optimizer.samplers import trial_seed
from mmsearch.search.results.publish import mlflow_at
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.urls import artifacts_folder
from mmsearch.tracking.journal import files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mmsearch.search.study.session import Session

MIN_STEPS, MIN_STEPS_IN_ALL = 100, 500
"""Steps of a seed, and of all seeds, below which the ends of the range depend on chance: they vary
by more than a factor of 1.5 between tests (docs/log.md, 2026-11-27)."""
MIN_WIDTH = 2.0
"""Ratio of the ends of a range below which it is no range to search."""
MAX_RATE = 1e6
"""Highest rate that may be asked for; none near it trains."""
RATES = {"adam": (1e-5, 0.1), "sgd": (1e-3, 1.0)}
"""Default lowest and highest rate of each optimizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTest:
    """A range test and its result."""

    point: Mapping[str, float]
    """Hyperparameters other than the learning rate."""
    learning_rates: NDArray[np.float64]
    """Learning rate of each step, shape (S,)."""
    losses: NDArray[np.float64]
    """Loss of each seed's minibatches, in nats per character, shape (n_seeds, S)."""
    seeds: tuple[int, ...]
    valley: Valley | None
    """The suggested range; None if no rate lowered the loss."""

    @property
    def means(self) -> NDArray[np.float64]:
        """Moving means of the losses, shape (n_seeds, S)."""
        return smoothed(self.losses)

    @property
    def warnings(self) -> list[str]:
        """Why the suggested range should not be trusted."""
        found, valley = [], self.valley
        n_steps, n_seeds = len(self.learning_rates), len(self.seeds)
        if valley and (n_steps < MIN_STEPS or n_steps * n_seeds < MIN_STEPS_IN_ALL):
            found.append(
                f"the range depends on chance after {counted(n_steps, 'step')} of "
                f"{counted(n_seeds, 'seed')}; take {MIN_STEPS} --steps or more, and "
                f"{MIN_STEPS_IN_ALL} or more over all --seeds"
            )
        if valley and valley.high < MIN_WIDTH * valley.low:
            found.append(
                f"{valley.low:g} to {valley.high:g} is too narrow to be searched; take more "
                "--steps or --seeds, or a wider range from --low to --high"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the test as JSON values; a loss that is not finite is null."""
        typical = np.median(self.means, axis=0)
        return {
            "hyperparameters": dict(self.point),
            "n_steps": len(self.learning_rates),
            "n_seeds": len(self.seeds),
            "start_loss": _finite(typical[0]),
            "best_loss": self.valley.best_loss if self.valley else None,
            "best_learning_rate": self.valley.best if self.valley else None,
            "suggested": (
                {"low": self.valley.low, "high": self.valley.high} if self.valley else None
            ),
            "warnings": self.warnings,
            "curve": [
                {"learning_rate": float(rate), "loss": _finite(loss)}
                for rate, loss in zip(self.learning_rates, typical, strict=True)
            ],
        }


def range_test(  # noqa: PLR0913 (each is one flag)
    session: Session,
    point: Mapping[str, float],
    *,
    low: float,
    high: float,
    n_steps: int,
    n_seeds: int,
) -> RangeTest:
    """Train on a study's train words from several seeds, at a rate that grows with each step.

    Args:
        session: the study whose words, settings and seed are used.
        point: hyperparameters other than the learning rate.
        low: the first learning rate.
        high: the last learning rate.
        n_steps: number of optimizer steps, each at its own rate.
        n_seeds: number of trainings.

    Raises:
        InputError: a value is out of range.
    """
    if not 0 < low < high <= MAX_RATE:
        raise InputError(
            f"the rates must rise from above 0 to at most {MAX_RATE:g}, got --low {low} and "
            f"--high {high}"
        )
    fix_arithmetic()
    settings, words = session.file.settings, session.words
    seeds = tuple(trial_seed(settings.seed, number) for number in range(n_seeds))
    learning_rates = rates(low, high, n_steps)
    data = TrialData(
        words.train, words.dev, words.vocabulary, int(point["block_size"]), settings.targets
    )
    losses = np.stack(
        [
            range_losses(
                settings.trial_spec({**point, "learning_rate": high}, seed),
                learning_rates,
                data.source,
                vocab_size=words.vocabulary.size,
            )
            for seed in seeds
        ]
    )
    return RangeTest(
        point=point,
        learning_rates=learning_rates,
        losses=losses,
        seeds=seeds,
        valley=valley(learning_rates, losses),
    )


def draw(test: RangeTest, path: Path) -> None:
    """Draw a range test into a PNG file.

    Raises:
        MMSearchError: it cannot be written.
    """
    from mmsearch.tracking.figures import style  # noqa: PLC0415 (matplotlib is slow)
    from mmsearch.tracking.figures.lr_range import lr_range  # noqa: PLC0415 (likewise)

    drawn = lr_range(
        test.learning_rates,
        test.losses,
        test.means,
        (test.valley.low, test.valley.high) if test.valley else None,
        title="learning-rate range test",
        detail=", ".join(f"{name} {value:g}" for name, value in test.point.items() if value),
    )
    try:
        style.save_figure(drawn, path)
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def log(session: Session, test: RangeTest) -> str:
    """Log a range test and its figure to MLflow, as a run of its own in the study's experiment.

    Returns:
        The id of the run.

    Raises:
        MMSearchError: MLflow cannot be reached.
    """
    from mmsearch.tracking.mlflow.client import create, open_experiment  # noqa: PLC0415
    from mmsearch.tracking.mlflow.lr_range_run import write  # noqa: PLC0415 (MLflow is slow)

    uri = session.tracking_uri
    session.workspace.create()
    facts = test.to_json()
    has_begun = StudyFile.read(session.journal) is not None
    with mlflow_at(uri, "run the same command again to log the test there"):
        with session.workspace.locked("mlflow"):
            client = create(uri)
            experiment = open_experiment(
                client,
                session.journal.name,
                artifacts_folder(session.workspace, uri),
                session.file.id if has_begun else "",
            )
        with files.scratch_folder() as scratch:
            figure = scratch / "lr_range.png"
            draw(test, figure)
            return write(
                client,
                experiment.experiment_id,
                tags={
                    "mmsearch.study": session.journal.name,
                    "mmsearch.corpus": session.file.corpus_fingerprint,
                    "mmsearch.split": session.file.split_fingerprint,
                    **({"mmsearch.study_id": session.file.id} if has_begun else {}),
                },
                params={**test.point, "n_steps": facts["n_steps"], "n_seeds": facts["n_seeds"]},
                curve=[(row["learning_rate"], row["loss"]) for row in facts["curve"]],
                suggested=facts["suggested"],
                figure=figure,
            )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
