"""`mmsearch run` as a person runs it: real processes, real databases, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import optuna
import pytest
from mlflow import MlflowClient

from mmsearch.tracking.journal.journal import Journal
from tests.support import plain_settings
from tests.support.assertions import (
    assert_gone,
    assert_same_everywhere,
    children_of,
    curves,
    mlflow_runs,
    optuna_trials,
    start,
    wait_for,
    workers_of,
)
from tests.support.terminal import begin, read

if TYPE_CHECKING:
    from tests.support.forked_cli import Done, Warm

QUICK = ("--steps", 200)
ENQUEUED = {"embedding_dim": 4, "hidden_width": 32, "block_size": 3, "learning_rate": 0.1}
CONFIG = f"""
[training]
segments = 4
{plain_settings.TRAINING}
[space]
learning_rate = {{ low = 0.01, high = 1, log = true }}
embedding_dim = {{ low = 2, high = 48, log = true }}
hidden_width = {{ low = 32, high = 512, log = true }}
{plain_settings.SPACE}
[search]
{plain_settings.SEARCH}
sampler = "random"
pruner = "none"
[[enqueue]]
embedding_dim = 4
hidden_width = 32
block_size = 3
learning_rate = 0.1
"""


class Mmsearch(Protocol):
    """Runs a command in a test's folder."""

    def __call__(self, *words: object) -> Done:
        """Run it to its end."""


@pytest.fixture
def mmsearch(tmp_path: Path, warm_command: Warm) -> Mmsearch:
    """Run commands without their start-up; those that get signals are started as installed."""
    return lambda *words: warm_command(*words, folder=tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> tuple[Path, str]:
    """A study of six trials, the first one enqueued; its folder and what the run printed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.toml").write_text(CONFIG)
    process = start(
        folder, "--corpus", small_corpus, "--config", "config.toml", "-n", 6, "--workers", 2, *QUICK
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, output


def test_run_leaves_each_trial_once_everywhere(finished: tuple[Path, str]) -> None:
    """Six trials asked for are six in Optuna, six in MLflow and six in the workspace."""
    folder, _ = finished
    assert_same_everywhere(folder / "runs", "few", 6)


def test_enqueued_configuration_is_tried_first(finished: tuple[Path, str]) -> None:
    """A configuration known to be good is not left to chance."""
    folder, _ = finished
    assert optuna_trials(folder / "runs", "few")[0].params == {
        **ENQUEUED,
        "weight_decay": 0.0,
        "context_noise": 0.0,
    }


def test_run_prints_a_line_a_trial_and_the_next_commands(finished: tuple[Path, str]) -> None:
    """Without a terminal the log is readable, and fits 80 columns."""
    _, output = finished
    assert len(re.findall(r"^trial +\d+  complete", output, re.MULTILINE)) == 6
    assert "6 of 6 trials (6 complete, 0 pruned, 0 failed)" in output
    assert "mmsearch ui --study few" in output
    assert all(len(line) <= 80 for line in output.splitlines() if "/" not in line)


def test_complete_trials_have_their_artifacts(finished: tuple[Path, str]) -> None:
    """Curves, the embedding, samples, weights and the spec are in MLflow for each trial."""
    folder, _ = finished
    client, parents, children = mlflow_runs(folder / "runs", "few")
    for run in children:
        paths = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert paths == {"figures", "images", "model", "samples.txt"}
        figures = {a.path for a in client.list_artifacts(run.info.run_id, "figures")}
        assert figures == {"figures/loss.png", "figures/embedding.png"}
        model = {a.path for a in client.list_artifacts(run.info.run_id, "model")}
        assert model == {"model/weights.safetensors", "model/spec.json"}
        samples = Path(client.download_artifacts(run.info.run_id, "samples.txt"))
        assert len(samples.read_text().splitlines()) == 20
        assert {"dev_loss", "best_dev_loss", "wall_s", "steps_per_s"} <= set(run.data.metrics)
        assert "mlflow.source.git.commit" in run.data.tags
    (parent,) = parents
    figures = {a.path for a in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/history.png", "figures/parallel_coordinates.png"} <= figures
    best = min(children, key=lambda run: run.data.metrics["dev_loss"])
    assert parent.data.tags["mmsearch.best_trial"] == best.data.tags["mmsearch.trial"]
    assert parent.data.metrics["best_dev_loss"] == best.data.metrics["dev_loss"]


def test_same_line_again_does_nothing_and_more_trials_are_added(
    finished: tuple[Path, str],
) -> None:
    """`--trials` is the total: again is no more, eight is two more."""
    folder, _ = finished
    before = curves(folder / "runs", "few")
    again = start(folder, "--study", "few", "-n", 6)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert "already has its 6 trials" in output
    assert curves(folder / "runs", "few") == before
    more = start(folder, "--study", "few", "-n", 8)
    output, _ = more.communicate(timeout=120)
    assert more.returncode == 0, output
    assert_same_everywhere(folder / "runs", "few", 8)
    after = curves(folder / "runs", "few")
    assert {number: after[number] for number in before} == before


def test_other_settings_are_refused_by_name(finished: tuple[Path, str]) -> None:
    """Two kinds of trials in one study would compare what cannot be compared."""
    folder, _ = finished
    process = start(folder, "--study", "few", "--steps", 300, "--seed", 5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert re.search(r"steps 200\D+300\b", output)
    assert re.search(r"seed 0\D+5\b", output)
    assert "--study" in output


def test_changed_words_are_refused(mmsearch: Mmsearch, tmp_path: Path, small_corpus: Path) -> None:
    """A corpus edited underneath a study would mix two dev splits."""
    words = tmp_path / "words.txt"
    words.write_text(small_corpus.read_text())
    assert mmsearch("run", "--corpus", words, "-n", 1, *QUICK).returncode == 0
    with words.open("a") as file:
        file.write("zzyzx\n")
    done = mmsearch("run", "--corpus", words, "-n", 2, *QUICK)
    assert done.returncode == 3
    assert "words.txt have changed" in done.stderr


def resumable(corpus: Path) -> tuple[object, ...]:
    """A study with proposals that follow from results, long enough to be stopped."""
    config = corpus.with_name("resumable.toml")
    config.write_text(
        f"[training]\nsegments = 4\n{plain_settings.TRAINING}[space]\nhidden_width = 32\n"
    )
    given = ("--corpus", corpus, "--config", config, "--steps", 3000)
    return (*given, "-n", 5, "--workers", 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> dict[int, Any]:
    """What that study gives when nobody stops it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = start(folder, *resumable(small_corpus))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return curves(folder / "runs", "few")


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(
    "stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda s: s.name
)
def test_stopped_search_goes_on_as_if_undisturbed(
    tmp_path: Path, small_corpus: Path, undisturbed: dict[int, Any], stop: signal.Signals
) -> None:
    """Ctrl-C, kill, a hangup and kill -9 cost segments in flight, and change no number."""
    words = resumable(small_corpus)
    process = start(tmp_path, *words)
    wait_for(Journal(tmp_path / "runs/few"), 6, process)
    started = children_of(process.pid)
    if stop is signal.SIGKILL:
        process.send_signal(stop)
    else:
        os.killpg(process.pid, stop)  # a terminal, timeout and systemd send it to workers, too
    output, _ = process.communicate(timeout=60)
    assert_gone(started)
    if stop is not signal.SIGKILL:
        assert process.returncode == 128 + stop, output
        assert "mmsearch run --trials 5 --study few" in output
    on = start(tmp_path, *words)
    output, _ = on.communicate(timeout=300)
    assert on.returncode == 0, output
    assert_same_everywhere(tmp_path / "runs", "few", 5)
    assert curves(tmp_path / "runs", "few") == undisturbed


@pytest.mark.usefixtures("hangups")
def test_closed_terminal_ends_a_search_in_order(tmp_path: Path, small_corpus: Path) -> None:
    """A window is closed, a connection breaks: nothing is half written, nor left behind."""
    process, terminal = begin(tmp_path, "run", *resumable(small_corpus), is_controlling=True)
    journal = Journal(tmp_path / "runs/few")
    while sum(len(record.curve) for record in journal.records()) < 3:
        assert read(terminal)  # the display goes on for as long as somebody reads it
    started = children_of(process.pid)

    os.close(terminal)

    assert process.wait(60) == 129
    assert_gone(started)
    assert {record.state for record in journal.records()} <= {"COMPLETE", "PRUNED", "RUNNING"}


def test_dead_worker_costs_its_segment_alone(tmp_path: Path, small_corpus: Path) -> None:
    """A worker that the kernel kills is replaced, and the study gets its trials."""
    words = ("--corpus", small_corpus, "--steps", 4000, "-n", 3, "--workers", 2)
    process = start(tmp_path, *words)
    wait_for(Journal(tmp_path / "runs/few"), 3, process)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert_same_everywhere(tmp_path / "runs", "few", 3)


def test_second_run_on_a_study_is_refused(tmp_path: Path, small_corpus: Path) -> None:
    """Two coordinators would ask and tell over each other."""
    words = ("--corpus", small_corpus, "--steps", 50_000, "-n", 50, "--workers", 1)
    first = start(tmp_path, *words)
    wait_for(Journal(tmp_path / "runs/few"), 1, first)
    second = start(tmp_path, *words)
    output, _ = second.communicate(timeout=60)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert second.returncode == 3
    assert f"pid {first.pid} on " in output


def test_diverging_trials_fail_with_their_reason(mmsearch: Mmsearch, tmp_path: Path) -> None:
    """A learning rate that always diverges ends the search, and not the night."""
    config = tmp_path / "config.toml"
    config.write_text(
        f"[space]\nlearning_rate = 1e30\nhidden_width = 32\n{plain_settings.SPACE}"
        f"[training]\nsegments = 2\n{plain_settings.TRAINING}"
    )
    done = mmsearch("run", "--config", config, "-n", 30, *QUICK)
    assert done.returncode == 1
    assert "10 trials in a row failed" in done.stderr
    assert re.search(r"loss is (not finite|[\d.e+]+ nats) at step \d+ of 200", done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    records = Journal(tmp_path / "runs/names").records()
    assert 10 <= len(records) <= 12
    failed = [record for record in records if record.outcome]
    assert all(re.search(r" at step \d+ of 200$", r.outcome.reason) for r in failed if r.outcome)
    _, _, children = mlflow_runs(tmp_path / "runs", "names")
    assert {run.info.status for run in children if run.data.tags["mmsearch.state"] == "FAIL"} == {
        "FAILED"
    }


def test_timeout_begins_no_more_trials(mmsearch: Mmsearch, small_corpus: Path) -> None:
    """`--timeout` ends a search in order, and says how to go on."""
    done = mmsearch(
        "run", "--corpus", small_corpus, "--steps", 4000, "--timeout", 1, "-n", 500, "--workers", 1
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ of 500 trials", done.stdout, re.MULTILINE)
    assert "mmsearch run --trials 500" in done.stdout


def test_trials_lists_best_first(finished: tuple[Path, str], mmsearch: Mmsearch) -> None:
    """The table and its JSON agree, best first, within 80 columns."""
    folder, _ = finished
    place = ("--workspace", folder / "runs")
    table = mmsearch("trials", *place)
    rows = json.loads(mmsearch("trials", *place, "--json").stdout)
    losses = [row["dev_loss"] for row in rows if row["state"] == "COMPLETE"]
    assert losses == sorted(losses)
    assert len(losses) >= 6
    assert f"{losses[0]:.4f}" in table.stdout.splitlines()[1]
    assert all(len(line) <= 80 for line in table.stdout.splitlines())


def test_sample_marks_words_of_train(
    finished: tuple[Path, str], mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """Words learnt by heart are told from new ones, and the same seed gives the same words."""
    folder, _ = finished
    words = ("sample", "--workspace", folder / "runs", "-n", 30, "--json", "--seed", 7)
    drawn = json.loads(mmsearch(*words).stdout)
    assert drawn == json.loads(mmsearch(*words).stdout)
    assert len(drawn["words"]) == 30
    known = set(small_corpus.read_text().split())
    assert all(word["word"] in known for word in drawn["words"] if word["in_train"])
    begun = json.loads(mmsearch(*words, "--prefix", "ma").stdout)
    assert all(word["word"].startswith("ma") for word in begun["words"])


def test_sync_rebuilds_an_emptied_mlflow(finished: tuple[Path, str], mmsearch: Mmsearch) -> None:
    """The workspace alone is enough to fill MLflow again."""
    folder, _ = finished
    uri = f"sqlite:///{folder}/rebuilt.db"
    done = mmsearch("sync", "--workspace", folder / "runs", "--tracking-uri", uri)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    n_runs = len(client.search_runs([experiment.experiment_id]))
    assert n_runs == len(Journal(folder / "runs/few").numbers()) + 1


def test_two_workspaces_share_one_mlflow(
    tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """Studies of one name on one server neither show nor delete each other's runs."""
    uri = f"sqlite:///{tmp_path}/shared.db"
    given = ("--corpus", small_corpus, "--tracking-uri", uri, "--pruner", "none", *QUICK)
    for workspace, n_trials in (("a", 1), ("b", 2), ("a", 2)):
        done = mmsearch("run", *given, "-n", n_trials, "--workspace", workspace)
        assert done.returncode == 0, done.stderr
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    kinds = [(r.data.tags["mmsearch.study_id"], r.data.tags["mmsearch.kind"]) for r in runs]
    assert len(set(kinds)) == 4
    assert sorted(kinds.count(kind) for kind in set(kinds)) == [1, 1, 2, 2]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_refused_storage_changes_nothing(
    tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """A --storage with another study of this name is refused; the plain line still works."""
    given = ("--corpus", small_corpus, "--workers", 1, *QUICK)
    assert mmsearch("run", *given, "-n", 1).returncode == 0
    study = tmp_path / "runs/few/study.json"
    before = study.read_bytes()
    url = f"sqlite:///{tmp_path}/other.db"
    other = optuna.create_study(study_name="few", storage=url)
    other.tell(other.ask(), 1.0)
    for _ in range(2):
        refused = mmsearch("run", *given, "-n", 2, "--storage", url)
        assert refused.returncode == 3
        assert study.read_bytes() == before
        assert len(curves(tmp_path / "runs", "few")) == 1
    assert len(optuna.load_study(study_name="few", storage=url).trials) == 1
    assert mmsearch("run", *given, "-n", 2).returncode == 0


def test_another_storage_is_filled(tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path) -> None:
    """A study that moves to a database server takes its trials along."""
    given = ("--corpus", small_corpus, "--workers", 1, *QUICK)
    assert mmsearch("run", *given, "-n", 1).returncode == 0

    url = f"sqlite:///{tmp_path}/other.db"
    assert mmsearch("run", *given, "-n", 2, "--storage", url).returncode == 0

    assert_same_everywhere(tmp_path / "runs", "few", 2, storage=url)


def test_older_optuna_database_is_made_whole(
    tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """A database put back from a backup decides nothing: it gets the trials that it lacks."""
    given = ("run", "--corpus", small_corpus, "--workers", 2, *QUICK)
    database = tmp_path / "runs/optuna.db"
    assert mmsearch(*given, "-n", 1).returncode == 0
    backup = database.read_bytes()
    assert mmsearch(*given, "-n", 3).returncode == 0
    before = curves(tmp_path / "runs", "few")
    for n_trials in (3, 4, 4):
        for path in database.parent.glob("optuna.db*"):
            path.unlink()
        database.write_bytes(backup)
        assert mmsearch(*given, "-n", n_trials).returncode == 0
        assert_same_everywhere(tmp_path / "runs", "few", n_trials)
    after = curves(tmp_path / "runs", "few")
    assert {number: after[number] for number in before} == before


def test_trials_that_a_person_enqueues_are_tried_or_named(
    tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """Optuna's own queue works; a slip of the fingers in it costs a line and no study."""
    given = ("run", "--corpus", small_corpus, "--workers", 1, *QUICK)
    assert mmsearch(*given, "-n", 1).returncode == 0
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{tmp_path}/runs/optuna.db")
    for value in ("abc", -1.0, 1e9):
        study.enqueue_trial({"learning_rate": value})
    study.enqueue_trial({"hidden_width": 77})
    for n_trials in (2, 3):
        done = mmsearch(*given, "-n", n_trials)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("an enqueued trial") == 3
    specs = [record.spec for record in Journal(tmp_path / "runs/few").records()]
    assert [spec.hidden_width == 77 for spec in specs].count(True) == 1
    trials = {trial.number: trial.params for trial in study.get_trials(deepcopy=False)}
    for number, spec in enumerate(specs):
        assert trials[number] == {name: getattr(spec, name) for name in trials[number]}


def test_clock_that_was_ahead_damages_nothing(
    tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """Killed between a trial's last segment and its end, a search goes on, whatever time it is."""
    given = ("run", "--corpus", small_corpus, "--workers", 1, *QUICK)
    assert mmsearch(*given, "-n", 1).returncode == 0
    folder = tmp_path / "runs/few/trials"
    path = folder / "0000/outcome.json"
    outcome = json.loads(path.read_text())
    path.write_text(json.dumps({**outcome, "ended_ms": outcome["ended_ms"] + 3_600_000}))
    assert mmsearch(*given, "-n", 2).returncode == 0
    before = curves(tmp_path / "runs", "few")
    (folder / "0001/outcome.json").unlink()

    assert mmsearch(*given, "-n", 2).returncode == 0

    assert curves(tmp_path / "runs", "few") == before
    assert_same_everywhere(tmp_path / "runs", "few", 2)


def test_relative_storage_is_found_from_anywhere(
    tmp_path: Path, mmsearch: Mmsearch, small_corpus: Path
) -> None:
    """A database named from one folder is the same from another."""
    given = ("--corpus", small_corpus, "--workers", 1, *QUICK)
    assert mmsearch("run", *given, "-n", 1, "--storage", "sqlite:///mine.db").returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    process = start(other, *given, "-n", 2, "--workspace", tmp_path / "runs")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert not list(other.glob("*.db"))


def test_seed_of_training_is_stored_with_the_study(
    tmp_path: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """Every trial has it, those of a later command without the config too; fresh seeds differ."""
    (tmp_path / "fixed.toml").write_text("[training]\nseed = 5\n[search]\nstart = false\n")
    words = ("--corpus", small_corpus, "--config", "fixed.toml", "--steps", 40, "-n", 2)
    first = warm_command("run", *words, "--workers", 1, folder=tmp_path)
    more = warm_command("run", "--study", "few", "-n", 3, "--workers", 1, folder=tmp_path)
    fresh = warm_command("confirm", "--top", 1, "--seeds", 1, folder=tmp_path)
    assert [first.returncode, more.returncode, fresh.returncode] == [0, 0, 0], first.stderr
    records = Journal(tmp_path / "runs/few").records()
    assert [record.spec.seed for record in records] == [5, 5, 5]
    assert [record.spec.seed for record in Journal(tmp_path / "runs/few", "confirm").records()] != [
        5
    ]
    assert len({record.spec.learning_rate for record in records}) == 3
    replayed = warm_command("replay", 2, folder=tmp_path)
    assert replayed.returncode == 0, replayed.stdout
