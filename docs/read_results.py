"""Read a study with plain Optuna, plain MLflow and plain files; nothing of mmsearch is imported.

    python docs/read_results.py WORKSPACE STUDY [WORD ...]

Prints the best trials as Optuna knows them, the best one's curve as MLflow knows it, and what its
weights say of some words, in NumPy; then holds the three records against each other, trial by
trial. Exit code 1 where they differ. docs/results.md has every name that stands in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import numpy as np
import optuna
import pandas as pd
from safetensors.numpy import load_file

HYPERPARAMETERS = ["embedding_dim", "hidden_width", "block_size", "learning_rate"]
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""MLflow's word for Optuna's."""


# Optuna: a trial is a row.


def read_optuna(workspace: Path, name: str) -> pd.DataFrame:
    """Give a study's ended trials: number, value, state, a column `params_...` each."""
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{workspace / 'optuna.db'}")
    trials = study.trials_dataframe(attrs=("number", "value", "params", "state"))
    trials["curve"] = [trial.intermediate_values for trial in study.trials]
    return trials[trials["state"].isin(STATUS)].set_index("number")


# MLflow: a trial is a run.


def read_mlflow(workspace: Path, name: str, study_id: str) -> pd.DataFrame:
    """Give the runs of a study's trials: columns `params....`, `metrics....` and `tags....`."""
    mlflow.set_tracking_uri(f"sqlite:///{workspace / 'mlflow.db'}")
    runs = mlflow.search_runs(
        experiment_names=[f"mmsearch/{name}"],
        filter_string=f"tags.`mmsearch.kind` = 'trial' and tags.`mmsearch.study_id` = '{study_id}'",
    )
    runs["number"] = runs["tags.mmsearch.trial"].astype(int)
    return runs.set_index("number").sort_index()


def read_curve(run_id: str, key: str) -> pd.Series:
    """Give one curve of a run, by step: `loss/dev`, `loss/train` or `loss/batch`."""
    points = mlflow.MlflowClient().get_metric_history(run_id, key)
    return pd.Series({point.step: point.value for point in points}, name=key).sort_index()


# Files: a trial is a folder.


def read_files(study: Path) -> dict[int, dict[str, Any]]:
    """Give each ended trial: `spec`, `facts`, `curve` (a segment each), `outcome`, `folder`."""
    trials = {}
    for folder in sorted((study / "trials").iterdir()):
        if not (folder / "outcome.json").exists():
            continue
        curve, path = [], folder / "curve.jsonl"
        if path.exists():
            curve = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        trials[int(folder.name)] = {
            **json.loads((folder / "spec.json").read_text("utf-8")),
            "curve": curve,
            "outcome": json.loads((folder / "outcome.json").read_text("utf-8")),
            "folder": folder,
        }
    return trials


def score_line(trial: dict[str, Any]) -> dict[str, Any]:
    """Return the line of a trial's curve that is its score: the best with patience, or the last."""
    curve: list[dict[str, Any]] = trial["curve"]
    if trial["spec"].get("patience"):
        return min(curve, key=lambda line: line["dev_loss"])
    return curve[-1]


class Model:
    """The network in NumPy: tanh of the embedded context, then the logits of what comes next."""

    def __init__(self, folder: Path, block_size: int, vocabulary: str) -> None:
        weights = load_file(folder / "weights.safetensors")
        self.C, self.W1, self.b1, self.W2, self.b2 = (
            weights[name] for name in ("C", "W1", "b1", "W2", "b2")
        )
        self.block_size, self.vocabulary = block_size, vocabulary

    def chances(self, before: str) -> np.ndarray:
        """Give the chance of each character of the vocabulary after `before`; `.` ends a word."""
        context = ("." * self.block_size + before)[-self.block_size :]
        embedded = self.C[[self.vocabulary.index(character) for character in context]].ravel()
        logits = np.tanh(embedded @ self.W1 + self.b1) @ self.W2 + self.b2
        chances = np.exp(logits.astype(np.float64) - logits.max())
        return chances / chances.sum()

    def loss(self, word: str) -> float:
        """Give a word's mean loss over its characters and its end, in nats."""
        losses = [
            -np.log(self.chances(word[:i])[self.vocabulary.index(character)])
            for i, character in enumerate(word + ".")
        ]
        return float(np.mean(losses))

    def sample(self, rng: np.random.Generator, max_length: int = 100) -> str:
        """Draw a word, character by character."""
        word = ""
        while len(word) < max_length:
            character = rng.choice(list(self.vocabulary), p=self.chances(word))
            if character == ".":
                break
            word += character
        return word


def differences(
    trials: pd.DataFrame, runs: pd.DataFrame, files: dict[int, dict[str, Any]]
) -> list[str]:
    """Hold Optuna, MLflow and the files against each other; a line for each difference."""
    if not set(trials.index) == set(runs.index) == set(files):
        return [f"trials: {len(trials)} in Optuna, {len(runs)} in MLflow, {len(files)} in files"]
    found = []
    for number, file in files.items():
        trial, run, curve = trials.loc[number], runs.loc[number], file["curve"]
        state = file["outcome"]["state"]
        by_step = {segment["step"]: segment["dev_loss"] for segment in curve}
        checks = {
            "state": trial["state"] == state == run["tags.mmsearch.state"],
            "status": run["status"] == STATUS[state],
            "curve in Optuna": trial["curve"] == by_step,
            "curve in MLflow": read_curve(run["run_id"], "loss/dev").to_dict() == by_step,
        }
        for name in HYPERPARAMETERS:
            values = {float(trial[f"params_{name}"]), float(run[f"params.{name}"])}
            checks[name] = values == {float(file["spec"][name])}
        if state == "COMPLETE":
            scored = score_line(file)
            losses = {trial["value"], run["metrics.dev_loss"], scored["dev_loss"]}
            checks["dev loss"] = len(losses) == 1
            weights = (file["folder"] / "weights.safetensors").read_bytes()
            sha256 = hashlib.sha256(weights).hexdigest()
            checks["weights"] = sha256 == curve[-1]["weights_sha256"]
        found += [f"trial {number}: {what} differs" for what, holds in checks.items() if not holds]
    return found


def main() -> int:
    """Print it all; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("study")
    parser.add_argument("words", nargs="*", help="to be scored; as many are drawn")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    study = json.loads((given.workspace / given.study / "study.json").read_text("utf-8"))
    trials = read_optuna(given.workspace, given.study)
    runs = read_mlflow(given.workspace, given.study, study["id"])
    files = read_files(given.workspace / given.study)

    complete = trials[trials["state"] == "COMPLETE"].sort_values("value")
    print(f"Optuna: {len(trials)} trials, the best of {len(complete)} complete ones")
    if complete.empty:
        return 1
    table = complete.rename(columns=lambda column: column.removeprefix("params_"))
    print(table[["value", *HYPERPARAMETERS]].head().to_string())

    best = int(complete.index[0])
    curve = read_curve(runs.loc[best, "run_id"], "loss/dev")
    print(f"\nMLflow: the dev loss of trial {best}, nats per character")
    print(curve.to_string())

    file = files[best]
    model = Model(file["folder"], file["spec"]["block_size"], study["vocabulary"])
    words = given.words or (file["folder"] / "samples.txt").read_text("utf-8").split("\n")[:3]
    if odd := set("".join(words)) - set(model.vocabulary[1:]):
        parser.error(f"no word of this study has {''.join(sorted(odd))!r}")
    print(f"\nFiles: what the weights of trial {best} say, nats per character")
    print(pd.Series({word: model.loss(word) for word in words}).to_string())
    rng = np.random.default_rng(0)
    print("and draw:", ", ".join(model.sample(rng) for _ in words))

    found = differences(trials, runs, files)
    print("\n" + ("\n".join(found) or f"the three agree on all {len(files)} trials"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
