"""`mmsearch lr-range`: the range test on a corpus, and its suggestion written into a config."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomlkit
import torch
from tomlkit.exceptions import TOMLKitError

from mmsearch.errors import InputError, MMSearchError
from mmsearch.model.lr_range import Valley, range_losses, rates, smoothed, valley
from mmsearch.model.training import TrialData
from mmsearch.search.optimizer.optuna_study import trial_seed
from mmsearch.search.results.publish import mlflow_at
from mmsearch.search.study.settings import read_config
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.urls import artifacts_folder
from mmsearch.tracking.journal import files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mmsearch.model.spec import TrialSpec
    from mmsearch.search.study.session import Session

MAX_RATE = 1e6
"""Upper limit of the rates: above any that trains."""
RATES = {"adam": (1e-5, 0.1), "sgd": (1e-3, 1.0)}
"""First and last rate where nothing else is asked for, by the optimizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTest:
    """What a range test was made of, and what came of it."""

    point: Mapping[str, float]
    """The hyperparameters besides the rate."""
    spec: TrialSpec
    """Spec of the first training, at the lowest rate."""
    learning_rates: NDArray[np.float64]
    """Of the steps, shape (S,)."""
    losses: NDArray[np.float64]
    """Of each seed's minibatches, in nats a character, shape (n_seeds, S)."""
    seeds: tuple[int, ...]
    valley: Valley | None
    """What it suggests; None where no rate brought the loss down."""

    @property
    def means(self) -> NDArray[np.float64]:
        """The losses' moving means, shape (n_seeds, S)."""
        return smoothed(self.losses)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values; a loss that is not finite is null."""
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
    """Train on a study's train words, from several seeds, at rates that grow from step to step.

    Args:
        session: gives the words, the start, the batch size and the seed.
        point: hyperparameters besides the learning rate.
        low: the first rate.
        high: the last one.
        n_steps: optimizer steps, one a rate.
        n_seeds: trainings.

    Raises:
        InputError: a value is outside its range.
    """
    if not 0 < low < high <= MAX_RATE:
        raise InputError(
            f"the rates must rise from above 0 to at most {MAX_RATE:g}, got --low {low} and "
            f"--high {high}"
        )
    torch.set_num_threads(1)  # a step is too small for two
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
        spec=settings.trial_spec({**point, "learning_rate": low}, seeds[0]),
        learning_rates=learning_rates,
        losses=losses,
        seeds=seeds,
        valley=valley(learning_rates, losses),
    )


def draw(test: RangeTest, path: Path) -> None:
    """Draw a test into a PNG file.

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
        style.save_png(drawn, path)
    except OSError as error:
        raise MMSearchError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def log(session: Session, test: RangeTest) -> None:
    """Show a test in MLflow, as a run of its own in the study's experiment.

    Raises:
        MMSearchError: MLflow cannot be reached; shows no password.
    """
    from mmsearch.tracking.mlflow.client import PREFIX, create, open_experiment  # noqa: PLC0415
    from mmsearch.tracking.mlflow.lr_range_run import write  # noqa: PLC0415 (MLflow is slow)

    uri = session.tracking_uri
    session.workspace.create()
    name = PREFIX + session.journal.name
    facts = test.to_json()
    has_begun = StudyFile.read(session.journal) is not None
    with mlflow_at(uri, "once it does, the same line shows the test there"):
        with session.workspace.locked("mlflow"):
            client = create(uri)
            experiment = open_experiment(client, name, artifacts_folder(session.workspace, uri))
        with tempfile.TemporaryDirectory() as scratch:
            figure = Path(scratch) / "lr_range.png"
            draw(test, figure)
            write(
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


def apply_range(path: Path, found: Valley) -> None:
    """Write a suggestion into a config file's `[space]`, and leave the rest of it as it is.

    Raises:
        InputError: the file cannot be read, or would not be a config any more.
        MMSearchError: it cannot be written.
    """
    if path.exists():
        read_config(path)
    try:
        document = tomlkit.parse(path.read_text("utf-8")) if path.exists() else tomlkit.document()
        space = document.setdefault("space", tomlkit.table())
        value = tomlkit.inline_table()
        value.update({"low": found.low, "high": found.high, "log": True})
        space["learning_rate"] = value
        content = tomlkit.dumps(document)
    except TOMLKitError as error:
        raise InputError(f"config {str(path)!r} cannot be changed: {error}") from error
    except OSError as error:
        raise MMSearchError(f"config {str(path)!r} cannot be read: {error.strerror}") from error
    target = path.resolve()  # a link stays one
    mode = target.stat().st_mode if target.exists() else None
    files.replace(target, content.encode())
    if mode is not None:
        target.chmod(mode)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
