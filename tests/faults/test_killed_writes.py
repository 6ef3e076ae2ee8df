"""`kill -9` in the middle of each write that must last: the next run goes on from there."""

import hashlib
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from mmsearch.search.optimizer.storage import open_storage
from mmsearch.tracking.journal.journal import Journal
from tests.support.assertions import assert_same_everywhere, curves, mlflow_runs
from tests.support.fault_injection import (
    APPEND_LINE,
    COPY_FILE,
    CREATE_MLFLOW_TABLES,
    MLFLOW,
    OPTUNA,
    WRITE_FILE,
    Kill,
    hurried,
)
from tests.support.forked_cli import Warm
from tests.support.reference_studies import SHORT


def kills(call: str, *places: tuple[str, str]) -> Iterable[Kill]:
    """Name places in one function: when, and what its arguments contain."""
    return [Kill(call=call, at=at, named=named) for at, named in places]


OF_A_RUN = (
    Kill(call=OPTUNA + "__init__", at="before_cursor_execute", nth_event=20),
    Kill(call=WRITE_FILE, at="half", named="study.json"),
    Kill(call=CREATE_MLFLOW_TABLES, at="before_cursor_execute", nth_event=40),
    Kill(call=OPTUNA + "_create_new_trial", at="after"),
    Kill(call=APPEND_LINE, at="half"),
    Kill(call=WRITE_FILE, at="half", named="weights.safetensors"),
    Kill(call=OPTUNA + "set_trial_intermediate_value", at="commit"),
    Kill(call=WRITE_FILE, at="half", named="outcome.json"),
    Kill(call=OPTUNA + "set_trial_state_values", at="commit"),
)
"""One for each kind of write, in the order in which a study comes to them."""
MORE_OF_A_RUN = (
    *kills(OPTUNA + "__init__", ("commit", "")),
    *kills(OPTUNA + "create_new_study", ("commit", "")),
    *kills(WRITE_FILE, ("after", "study.json")),
    *kills(OPTUNA + "_create_new_trial", ("commit", "")),
    *kills(WRITE_FILE, ("half", "spec.json"), ("after", "spec.json")),
    *kills(APPEND_LINE, ("after", "")),
    *kills(WRITE_FILE, ("half", "curve.jsonl"), ("after", "weights.safetensors")),
    *kills(OPTUNA + "set_trial_intermediate_value", ("after", "")),
    *kills(WRITE_FILE, ("after", '"state": "FAIL"')),
    *kills(OPTUNA + "set_trial_user_attr", ("commit", "reason"), ("after", "reason")),
    *kills(OPTUNA + "set_trial_state_values", ("after", "")),
    *kills(WRITE_FILE, ("half", "samples.txt"), ("after", "outcome.json")),
)
OF_MLFLOW = (
    *kills(MLFLOW + "create_experiment", ("after", "")),
    *kills(MLFLOW + "create_run", ("after", "")),
    *kills(MLFLOW + "log_batch", ("commit", "embedding_dim"), ("commit", "loss/dev")),
    *kills(COPY_FILE, ("half", "weights.safetensors")),
    *kills(MLFLOW + "set_terminated", ("commit", "")),
)
MORE_OF_MLFLOW = (
    *kills(CREATE_MLFLOW_TABLES, ("after", "")),
    *kills(MLFLOW + "create_run", ("commit", "")),
    *kills(MLFLOW + "log_batch", ("commit", "sampler")),
    *kills(MLFLOW + "create_run", ("commit", "mmsearch.trial")),
    *kills(MLFLOW + "log_inputs", ("commit", ""), ("after", "")),
    *kills(MLFLOW + "log_batch", ("after", "loss/dev"), ("after", "best_dev_loss")),
    *kills(MLFLOW + "log_artifact", ("after", "figures")),
    *kills(MLFLOW + "set_terminated", ("after", "")),
    Kill(call=MLFLOW + "set_terminated", at="after", nth=4),
)
LISTS = ["kinds", "gaps"]


def at_length(more: Sequence[Kill]) -> Any:
    """Mark places that are tried in the long version only."""
    return pytest.param(more, marks=pytest.mark.long)


@pytest.mark.parametrize("places", [OF_A_RUN, at_length(MORE_OF_A_RUN)], ids=LISTS)
def test_search_killed_in_each_kind_of_write_ends_as_if_undisturbed(
    tmp_path: Path,
    small_corpus: Path,
    warm_command: Warm,
    short: dict[int, Any],
    places: Sequence[Kill],
) -> None:
    """A study survives a kill in its journal, weights, outcomes, and both databases."""
    words = ("run", *SHORT.words(tmp_path, small_corpus))
    for kill in places:
        patch = hurried(0.01) + kill.patch
        done = warm_command(*words, folder=tmp_path, patch=patch)
        if done.returncode == 0:  # a slow machine has left nothing to be written there
            assert curves(tmp_path / "runs", "few") == short
            shutil.rmtree(tmp_path / "runs")
            done = warm_command(*words, folder=tmp_path, patch=patch)
        assert done.returncode == -signal.SIGKILL, f"{kill}: {done}"
        for number, (spec, _, curve) in curves(tmp_path / "runs", "few").items():
            assert spec == short[number][0], str(kill)
            assert curve == short[number][2][: len(curve)], str(kill)
    warm_command(*words, folder=tmp_path, code=0)
    assert_same_everywhere(tmp_path / "runs", "few", SHORT.n_trials)
    assert curves(tmp_path / "runs", "few") == short


@pytest.mark.parametrize("places", [OF_MLFLOW, at_length(MORE_OF_MLFLOW)], ids=LISTS)
def test_upload_killed_in_each_call_to_mlflow_is_completed_once(
    copied: Path, warm_command: Warm, places: Sequence[Kill]
) -> None:
    """Half a run, batch or file in MLflow becomes a whole one, and no second one."""
    runs = copied / "runs"
    for path in runs.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(runs / "artifacts")
    for kill in places:
        done = warm_command("sync", folder=copied, patch=kill.patch)
        assert done.returncode == -signal.SIGKILL, f"{kill}: {done}"
    warm_command("run", "--study", "few", "-n", 4, folder=copied, code=0)
    assert_same_everywhere(runs, "few", 4)
    client, _, children = mlflow_runs(runs, "few")
    for run, record in zip(children, Journal(runs / "few").records(), strict=True):
        held = client.list_artifacts(run.info.run_id, "model")
        assert [item.path for item in held] == ["model/spec.json", "model/weights.safetensors"]
        weights = Path(client.download_artifacts(run.info.run_id, held[1].path)).read_bytes()
        assert hashlib.sha256(weights).hexdigest() == record.curve[-1].weights_sha256


def test_plan_of_a_confirmation_killed_in_its_writing_was_never_made(
    copied: Path, warm_command: Warm
) -> None:
    """Half a plan chooses nothing: the same command plans and trains again."""
    words = ("confirm", "--top", 1, "--seeds", 1)
    kill = Kill(call=WRITE_FILE, at="half", named="confirm.json")
    warm_command(*words, folder=copied, patch=kill.patch, code=-signal.SIGKILL)
    assert (copied / "runs/few/.confirm.json.new").exists()
    assert Journal(copied / "runs/few").read_plan() is None
    warm_command(*words, folder=copied, code=0)
    assert Journal(copied / "runs/few").read_plan() is not None


@pytest.mark.long
def test_optuna_database_killed_at_any_statement_is_made_by_the_next_run(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Optuna creates one table after the other, so any number of them may be there."""
    n_statements = 0
    while True:
        n_statements += 1
        folder = tmp_path / str(n_statements)
        folder.mkdir()
        kill = Kill(call=OPTUNA + "__init__", at="before_cursor_execute", nth_event=n_statements)
        words = ("run", *SHORT.words(folder, small_corpus))
        if warm_command(*words, folder=folder, patch=kill.patch).returncode != -signal.SIGKILL:
            break  # it needs fewer statements than that
        storage = open_storage(f"sqlite:///{folder}/runs/optuna.db")
        study = optuna.create_study(storage=storage, study_name="any")
        study.tell(study.ask(), 1.0)
        assert study.best_value == 1.0
    assert n_statements > 30
