"""`kill -9` in the middle of each write that must last: the next run finds its way from there."""

from __future__ import annotations

import hashlib
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from mmsearch.search.optimizer.storage import open_storage
from mmsearch.tracking.journal.journal import Journal
from tests.support.assertions import assert_same_everywhere, curves, mlflow_runs
from tests.support.fault_injection import Kill
from tests.support.reference_studies import SHORT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.forked_cli import Warm

FILES = "mmsearch.tracking.journal.files:"
STORE = "mmsearch.tracking.mlflow.client:"
OPTUNA = "optuna.storages:RDBStorage."
MLFLOW = "mlflow:MlflowClient."

OFTEN = "from mmsearch.tracking import uploader; uploader.FLUSH_S = 0.01\n"
"""So that the databases hear of each segment, and not of whole trials alone."""

OF_A_RUN = (
    Kill(call=OPTUNA + "__init__", at="before_cursor_execute", nth_event=20),
    Kill(call=OPTUNA + "create_new_study", at="after"),
    Kill(call=FILES + "replace", at="half", named="study.json"),
    Kill(call=STORE + "_make_tables", at="before_cursor_execute", nth_event=40),
    Kill(call=OPTUNA + "_create_new_trial", at="after"),
    Kill(call=FILES + "append", at="half"),
    Kill(call=FILES + "replace", at="half", named="weights.safetensors"),
    Kill(call=OPTUNA + "set_trial_intermediate_value", at="commit"),
    Kill(call=FILES + "replace", at="half", named="outcome.json"),
    Kill(call=FILES + "replace", at="after", named='"state": "FAIL"'),
    Kill(call=OPTUNA + "set_trial_state_values", at="commit"),
)
"""One for each kind of write, in the order in which a study comes to them."""
MORE_OF_A_RUN = (
    Kill(call=OPTUNA + "__init__", at="commit"),
    Kill(call=OPTUNA + "create_new_study", at="commit"),
    Kill(call=FILES + "replace", at="after", named="study.json"),
    Kill(call=OPTUNA + "_create_new_trial", at="commit"),
    Kill(call=FILES + "replace", at="half", named="spec.json"),
    Kill(call=FILES + "replace", at="after", named="spec.json"),
    Kill(call=FILES + "append", at="after"),
    Kill(call=FILES + "replace", at="half", named="curve.jsonl"),
    Kill(call=FILES + "replace", at="after", named="weights.safetensors"),
    Kill(call=OPTUNA + "set_trial_intermediate_value", at="after"),
    Kill(call=OPTUNA + "set_trial_user_attr", at="commit", named="mmsearch.reason"),
    Kill(call=OPTUNA + "set_trial_user_attr", at="after", named="mmsearch.reason"),
    Kill(call=OPTUNA + "set_trial_state_values", at="after"),
    Kill(call=FILES + "replace", at="half", named="samples.txt"),
    Kill(call=FILES + "replace", at="after", named="outcome.json"),
)
OF_MLFLOW = (
    Kill(call=MLFLOW + "create_experiment", at="after"),
    Kill(call=MLFLOW + "create_run", at="after"),
    Kill(call=MLFLOW + "log_batch", at="commit", named="sampler"),
    Kill(call=MLFLOW + "create_run", at="after"),
    Kill(call=MLFLOW + "log_batch", at="commit", named="embedding_dim"),
    Kill(call=MLFLOW + "log_batch", at="commit", named="loss/dev"),
    Kill(call="shutil:copyfileobj", at="half", named="weights.safetensors"),
    Kill(call=MLFLOW + "set_terminated", at="commit"),
)
MORE_OF_MLFLOW = (
    Kill(call=STORE + "_make_tables", at="after"),
    Kill(call=MLFLOW + "create_run", at="commit"),
    Kill(call=MLFLOW + "create_run", at="commit", named="mmsearch.trial"),
    Kill(call=MLFLOW + "log_batch", at="after", named="loss/dev"),
    Kill(call=MLFLOW + "log_batch", at="after", named="best_dev_loss"),
    Kill(call=MLFLOW + "log_artifact", at="after", named="figures"),
    Kill(call=MLFLOW + "set_terminated", at="after"),
    Kill(call=MLFLOW + "set_terminated", at="after", nth=4),
)


def assert_beginning(folder: Path, expected: dict[int, Any], kill: Kill) -> None:
    """Hold that what stands in the journal is what stands in the undisturbed one, so far."""
    for number, (spec, _, curve) in curves(folder / "runs", "few").items():
        assert spec == expected[number][0], str(kill)
        assert curve == expected[number][2][: len(curve)], str(kill)


def the_long(*kills: Kill) -> Any:
    """Name places that are tried at length alone."""
    return pytest.param(kills, marks=pytest.mark.long)


@pytest.mark.parametrize("kills", [OF_A_RUN, the_long(*MORE_OF_A_RUN)], ids=["kinds", "gaps"])
def test_search_killed_in_each_kind_of_write_ends_as_if_undisturbed(
    tmp_path: Path,
    small_corpus: Path,
    warm_command: Warm,
    short: dict[int, Any],
    kills: Sequence[Kill],
) -> None:
    """Journal, weights, outcome, each database's making and filling: no place is special."""
    words = ("run", *SHORT.words(tmp_path, small_corpus))
    for kill in kills:
        done = warm_command(*words, folder=tmp_path, patch=OFTEN + kill.patch)
        assert done.returncode == -signal.SIGKILL, f"{kill}: {done}"
        assert_beginning(tmp_path, short, kill)
    done = warm_command(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_everywhere(tmp_path / "runs", "few", SHORT.n_trials)
    assert curves(tmp_path / "runs", "few") == short


@pytest.mark.parametrize("kills", [OF_MLFLOW, the_long(*MORE_OF_MLFLOW)], ids=["kinds", "gaps"])
def test_flush_killed_in_each_call_to_mlflow_is_made_up_for_once(
    copied: Path, warm_command: Warm, kills: Sequence[Kill]
) -> None:
    """Half a run, half a batch and half a file in MLflow become whole ones, and no second ones."""
    runs = copied / "runs"
    for path in runs.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(runs / "artifacts")
    for kill in kills:
        done = warm_command("sync", folder=copied, patch=kill.patch)
        assert done.returncode == -signal.SIGKILL, f"{kill}: {done}"
    done = warm_command("run", "--study", "few", "-n", 4, folder=copied)
    assert done.returncode == 0, done.stderr
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
    """Half a plan chooses nothing: the same line makes it, and trains it."""
    words = ("confirm", "--top", 1, "--seeds", 1)
    kill = Kill(call=FILES + "replace", at="half", named="confirm.json")
    done = warm_command(*words, folder=copied, patch=kill.patch)
    assert done.returncode == -signal.SIGKILL, done
    assert (copied / "runs/few/.confirm.json.new").exists()
    assert Journal(copied / "runs/few").read_plan() is None
    done = warm_command(*words, folder=copied)
    assert done.returncode == 0, done.stderr
    assert "chosen: trial" in done.stdout


@pytest.mark.long
def test_optuna_database_killed_at_any_statement_of_its_making_is_made_by_the_next_run(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Optuna makes a table after the other: any number of them must do."""
    n_statements = 0
    while True:
        n_statements += 1
        folder = tmp_path / str(n_statements)
        folder.mkdir()
        kill = Kill(call=OPTUNA + "__init__", at="before_cursor_execute", nth_event=n_statements)
        words = ("run", *SHORT.words(folder, small_corpus))
        if warm_command(*words, folder=folder, patch=kill.patch).returncode != -signal.SIGKILL:
            break  # so many it does not have
        url = f"sqlite:///{folder}/runs/optuna.db"
        study = optuna.create_study(storage=open_storage(url), study_name="any")
        study.tell(study.ask(), 1.0)
        assert study.best_value == 1.0
    assert n_statements > 30
