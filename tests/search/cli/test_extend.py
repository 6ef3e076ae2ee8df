"""`mmsearch extend`: a trial trained on from its weights, beside the trials of the search."""

import json
import shutil
import signal
from pathlib import Path

import optuna
import pytest

from mmsearch.data.corpus import read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model import checkpoint
from mmsearch.model.averaging import State
from mmsearch.model.training import TrialData, train_segment
from mmsearch.tracking.journal.journal import Journal
from tests.support.assertions import curves, mlflow_runs, optuna_trials, runs_of_kind
from tests.support.fault_injection import Kill
from tests.support.forked_cli import Warm


def extended(folder: Path) -> Journal:
    """Return the journal of the extensions."""
    return Journal(folder / "runs/few", "extend")


def test_training_goes_on_from_the_weights_of_the_trial(
    copied: Path, warm_command: Warm, small_corpus: Path
) -> None:
    """Exactly the steps asked for, at one rate, and the same bits as training the model by hand."""
    parent = Journal(copied / "runs/few").read(1)
    done = warm_command("extend", 1, "--steps", 60, "--json", folder=copied, code=0)
    record = extended(copied).read(0)
    told = json.loads(done.stdout)
    assert (told["parent_trial"], told["parent_dev_loss"]) == (1, parent.dev_loss)
    assert told["extension"]["dev_loss"] == record.dev_loss
    assert record.facts["parent_trial"] == 1
    assert record.curve[-1].step == 60
    assert {rate for line in record.curve for _, _, rate in line.train} == {
        parent.curve[-1].train[-1][2]
    }
    assert record.spec.seed != parent.spec.seed, "it sees other minibatches"

    split = split_corpus(read_corpus(small_corpus))
    vocabulary, spec = read_corpus(small_corpus).vocabulary, record.spec
    data = TrialData(split.train, split.dev, vocabulary, spec.block_size, spec.targets)
    state = State(checkpoint.from_bytes(Journal(copied / "runs/few").read_weights(parent)))
    losses: list[float] = []
    while not spec.has_ended(losses):
        segment = train_segment(spec, losses, state, data)
        state, losses = segment.state, [*losses, segment.dev_loss]
    assert losses[-1] == pytest.approx(record.dev_loss, abs=1e-6)
    replayed = warm_command("replay", "--extension", 0, "--json", folder=copied)
    assert json.loads(replayed.stdout)["is_identical"]


def test_search_goes_on_as_if_there_were_no_extension(copied: Path, warm_command: Warm) -> None:
    """It counts only if asked, and the same configurations are proposed and chosen."""
    shutil.copytree(copied / "runs", copied / "plain/runs")
    rate = ("--learning-rate", 0.05)
    warm_command("extend", 2, "--steps", 40, *rate, folder=copied, code=0)
    more = ("run", "--study", "few", "-n", 6, "--workers", 1)
    for folder in (copied, copied / "plain"):
        warm_command(*more, folder=folder, code=0)
    assert curves(copied / "runs", "few") == curves(copied / "plain/runs", "few")
    assert len(optuna_trials(copied / "runs", "few")) == 6
    model, plain = (
        json.loads(warm_command("sample", "-n", 1, "--json", folder=folder).stdout)["model"]
        for folder in (copied, copied / "plain")
    )
    assert model == plain
    assert extended(copied).read(0).spec.learning_rate == pytest.approx(0.05)
    counted = ("run", "--study", "few", "-n", 8, "--count-extensions", "--workers", 1)
    warm_command(*counted, folder=copied, code=0)
    assert len(optuna_trials(copied / "runs", "few")) == 7


def test_extensions_are_shown_with_their_trial(copied: Path, warm_command: Warm) -> None:
    """`trials` lists them, and MLflow has a run of each."""
    warm_command("extend", 3, "--steps", 40, folder=copied, code=0)
    loss = extended(copied).read(0).dev_loss
    assert f"{loss:.4f}" in warm_command("trials", folder=copied).stdout
    trials = json.loads(warm_command("trials", "--json", folder=copied).stdout)
    assert len(trials) == 4
    for trial in trials:
        shown = [each["extension"] for each in trial["extensions"]]
        assert shown == ([0] if trial["trial"] == 3 else [])
    attrs = optuna.load_study(study_name="few", storage=f"sqlite:///{copied}/runs/optuna.db")
    assert attrs.user_attrs["mmsearch.parent_trials"] == {"0": 3}
    _, parents, _ = mlflow_runs(copied / "runs", "few")
    (run,) = runs_of_kind(copied / "runs", "few", "extend")
    assert run.data.tags["mmsearch.parent_trial"] == "3"
    assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
    assert run.data.metrics["dev_loss"] == pytest.approx(loss)
    assert run.info.status == "FINISHED"


def test_same_command_trains_nothing_again(copied: Path, warm_command: Warm) -> None:
    """Other steps or another rate are another extension."""
    words = ("extend", 1, "--steps", 40, "--json")
    first, again = (warm_command(*words, folder=copied) for _ in range(2))
    assert first.stdout == again.stdout
    assert extended(copied).numbers() == [0]
    for other in (("--steps", 41), ("--steps", 40, "--learning-rate", 0.02)):
        warm_command("extend", 1, *other, folder=copied, code=0)
    assert extended(copied).numbers() == [0, 1, 2]


@pytest.mark.fault
def test_killed_extension_is_resumed_by_the_same_command(copied: Path, warm_command: Warm) -> None:
    """After `kill -9` it ends with the weights that it would have had."""
    words = ("extend", 1, "--steps", 400)
    shutil.copytree(copied / "runs", copied / "plain/runs")
    warm_command(*words, folder=copied / "plain", code=0)
    # Its segments are in the journal, and their weights are not: they are trained again.
    replace = "mmsearch.tracking.journal.files:replace"
    kill = Kill(call=replace, at="before", named="weights.safetensors").patch
    warm_command(*words, folder=copied, patch=kill, code=-signal.SIGKILL)
    assert extended(copied).read(0).curve
    assert extended(copied).read(0).outcome is None
    assert "stopped" in warm_command("trials", folder=copied).stdout

    warm_command(*words, folder=copied, code=0)

    assert extended(copied).numbers() == [0]
    killed, plain = (
        [(line.step, line.dev_loss, line.weights_sha256) for line in extended(f).read(0).curve]
        for f in (copied, copied / "plain")
    )
    assert killed == plain


def test_diverging_extension_fails_and_is_replayed(copied: Path, warm_command: Warm) -> None:
    """It is kept with its reason, and the command tells so by its exit code."""
    words = ("extend", 1, "--steps", 40, "--learning-rate", 1e30)
    for _ in range(2):
        warm_command(*words, folder=copied, code=1)
    assert [record.state for record in extended(copied).records()] == ["FAIL"]
    warm_command("replay", "--extension", 0, folder=copied, code=0)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("extend", 77, "--steps", 10), "mmsearch trials"),
        (("extend", 3, "--steps", 10), "mmsearch run"),
        (("extend", 2, "--steps", 10), "trial 2 failed"),
        (("extend", 1, "--steps", 10, "--learning-rate", "nan"), "learning_rate"),
        (("extend", 1, "--steps", 10**12), "steps"),
        (("replay", "--extension", 5), "extension 5"),
        (("replay", 1, "--extension", 0), "--extension"),
    ],
)
def test_what_cannot_be_extended_is_one_clear_line(
    copied: Path, warm_command: Warm, words: tuple[object, ...], named: str
) -> None:
    """A trial that runs, failed or is not there; nothing is written."""
    trials = copied / "runs/few/trials"
    (trials / "0003/outcome.json").unlink()
    outcome = json.loads((trials / "0002/outcome.json").read_text())
    failed = {**outcome, "state": "FAIL", "failure": "error", "reason": "made to fail"}
    (trials / "0002/outcome.json").write_text(json.dumps(failed))
    done = warm_command(*words, folder=copied)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert extended(copied).numbers() == []
