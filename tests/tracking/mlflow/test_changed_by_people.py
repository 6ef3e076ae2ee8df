"""What people change in MLflow by its client or its UI is found again, and put right by `sync`."""

from __future__ import annotations

import http.server
import json
import shlex
import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tests.support.fault_injection import STOP_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlflow.entities import Experiment, Run

    from tests.support.forked_cli import Warm

RUN = ("run", "--study", "few", "--workers", 1)


class Store:
    """The MLflow store of a workspace, as anybody may use it."""

    def __init__(self, folder: Path) -> None:
        self.client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")

    @property
    def experiments(self) -> list[Experiment]:
        """All experiments but MLflow's own, deleted ones included."""
        found = self.client.search_experiments(view_type=ViewType.ALL)
        return [experiment for experiment in found if experiment.name != "Default"]

    def runs(self, kind: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        """Find the runs of a kind, in any experiment."""
        places = [experiment.experiment_id for experiment in self.experiments]
        return list(self.client.search_runs(places, f"tags.mmsearch.kind = '{kind}'", view))

    @property
    def parent(self) -> str:
        """The id of the study's own run."""
        (run,) = self.runs("study")
        return str(run.info.run_id)

    def trial(self, number: int) -> str:
        """The id of a trial's run."""
        found = [r for r in self.runs("trial") if r.data.tags.get("mmsearch.trial") == f"{number}"]
        return str(found[0].info.run_id)

    def rename(self) -> None:
        """Rename the experiment."""
        self.client.rename_experiment(self.experiments[0].experiment_id, "my thesis")

    def delete_experiment(self) -> None:
        """Delete the experiment."""
        self.client.delete_experiment(self.experiments[0].experiment_id)

    def delete_parent(self) -> None:
        """Delete the study's own run."""
        self.client.delete_run(self.parent)

    def delete_trial(self) -> None:
        """Delete the run of a trial."""
        self.client.delete_run(self.trial(2))

    def nest_elsewhere(self) -> None:
        """Nest a trial under another one."""
        self.client.set_tag(self.trial(1), "mlflow.parentRunId", self.trial(2))

    def nest_nowhere(self) -> None:
        """Take a trial out of the study's run."""
        self.client.delete_tag(self.trial(1), "mlflow.parentRunId")


CHANGES: dict[str, tuple[Callable[[Store], None], ...]] = {
    "renamed": (Store.rename,),
    "renamed and deleted": (Store.rename, Store.delete_experiment),
    "trial moved": (Store.nest_elsewhere, Store.nest_nowhere),
    "all": (Store.nest_elsewhere, Store.delete_trial, Store.delete_parent, Store.rename),
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_sync_makes_one_whole_nested_copy(
    copied: Path, warm_command: Warm, changes: tuple[Callable[[Store], None], ...]
) -> None:
    """It finds the study by its id, sends only what is gone, and says what it mended."""
    store = Store(copied)
    (experiment,), parent = store.experiments, store.parent
    for change in changes:
        change(store)

    done = warm_command("sync", "--json", folder=copied)

    assert done.returncode == 0, done.stderr
    synced = json.loads(done.stdout)
    assert synced["n_sent"] == (Store.delete_trial in changes)
    assert bool(synced["mended"]) == (changes != (Store.rename,))
    assert [e.experiment_id for e in store.experiments] == [experiment.experiment_id]
    assert store.experiments[0].lifecycle_stage == "active"
    assert store.parent == parent
    trials = store.runs("trial")
    assert sorted(run.data.tags["mmsearch.trial"] for run in trials) == ["0", "1", "2", "3"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent}
    assert all(run.info.status == "FINISHED" for run in trials)
    again = json.loads(warm_command("sync", "--json", folder=copied).stdout)
    assert (again["n_sent"], again["mended"]) == (0, [])


def test_trial_that_was_deleted_and_restored_is_there_once(
    copied: Path, warm_command: Warm
) -> None:
    """The next search sends a deleted trial again; a person restores the first run then."""
    store = Store(copied)
    deleted = store.trial(2)
    store.client.delete_run(deleted)
    assert warm_command(*RUN, "-n", 5, folder=copied).returncode == 0
    assert len(store.runs("trial")) == 5
    store.client.restore_run(deleted)
    assert len(store.runs("trial")) == 6

    done = warm_command("sync", folder=copied)

    assert "deleted 1" in done.stdout
    assert len(store.runs("trial")) == 5


NUMBERS: dict[str, dict[int, str | None]] = {
    "removed": {2: None},
    "of an older trial": {2: "1"},
    "of no trial": {1: "99", 3: "three"},
    "swapped": {1: "2", 2: "1"},
}


@pytest.mark.parametrize(
    ("words", "changed"),
    [*((("sync",), changed) for changed in NUMBERS.values()), ((*RUN, "-n", 5), {1: "2"})],
    ids=[*NUMBERS, "of a younger trial, search"],
)
def test_run_whose_number_was_changed_gets_it_back(
    copied: Path, warm_command: Warm, words: tuple[object, ...], changed: dict[int, str | None]
) -> None:
    """It began when its trial did, and so nothing is sent again or deleted."""
    store = Store(copied)
    trials = {store.trial(number): number for number in range(4)}
    for run_id, number in trials.items():
        if number in changed:
            store.client.delete_tag(run_id, "mmsearch.trial")
            if (other := changed[number]) is not None:
                store.client.set_tag(run_id, "mmsearch.trial", other)

    done = warm_command(*words, folder=copied)

    assert done.returncode == 0, done.stderr
    assert (f"gave {len(changed)} run" in done.stdout) == ("sync" in words)
    runs = store.runs("trial")
    assert len(runs) == (4 if "sync" in words else 5)
    numbers = {run.info.run_id: int(run.data.tags["mmsearch.trial"]) for run in runs}
    assert trials.items() <= numbers.items()
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {store.parent}


@pytest.mark.fault
def test_trials_that_began_in_one_instant_keep_their_numbers(
    copied: Path, warm_command: Warm
) -> None:
    """The begin of a run tells its trial only where no other one began then."""
    for number in (1, 2):
        path = copied / f"runs/few/trials/{number:04d}/spec.json"
        spec = json.loads(path.read_text())
        spec["facts"]["started_ms"] = 1_700_000_000_000
        path.write_text(json.dumps(spec))
    store = Store(copied)
    for number in (1, 2):
        store.client.delete_run(store.trial(number))
    assert warm_command("sync", folder=copied).returncode == 0
    store.client.delete_tag(store.trial(1), "mmsearch.trial")
    shown = warm_command("ui", "--no-browser", folder=copied, patch=STOP_SERVER)
    assert "leaderboard" in shown.stdout, shown.stderr

    done = json.loads(warm_command("sync", "--json", folder=copied).stdout)

    assert done["n_sent"] == 1
    assert len(done["mended"]) == 1
    runs = {run.data.tags["mmsearch.trial"]: run for run in store.runs("trial")}
    assert sorted(runs) == ["0", "1", "2", "3"]
    journal = copied / "runs/few/trials"
    for name, run in runs.items():
        spec = json.loads((journal / f"{int(name):04d}/spec.json").read_text())
        assert run.data.params["learning_rate"] == str(spec["spec"]["learning_rate"])


def test_final_test_counts_in_an_experiment_that_was_renamed(
    copied: Path, warm_command: Warm
) -> None:
    """MLflow's ledger has looks of every experiment with our tag, whatever its name."""
    assert warm_command("final-test", "--trial", 0, folder=copied).returncode == 0
    store = Store(copied)
    store.rename()
    for path in [*(copied / "runs").glob("optuna.db*"), *copied.rglob("ledger/*")]:
        path.unlink()  # the other two ledgers
    assert warm_command("sync", folder=copied).returncode == 0

    done = warm_command("final-test", "--trial", 1, folder=copied)

    assert done.returncode == 3, done.stdout
    assert "trial 0" in done.stderr


def test_trials_carry_their_words_and_their_user(copied: Path) -> None:
    """As MLflow's data sets, which name no word; so does the column of the user."""
    store = Store(copied)
    digests = set()
    for run in store.runs("trial"):
        assert run.inputs is not None
        sets = {}
        for each in run.inputs.dataset_inputs:
            sets[each.tags[0].value] = json.loads(str(each.dataset.profile))["num_rows"]
            digests.add(each.dataset.digest)
        assert sets == {"train": 320, "dev": 40}
        assert run.data.tags["mlflow.source.name"] == "mmsearch"
        assert run.data.tags["mlflow.user"]
    assert len(digests) == 2


def test_commands_of_a_note_can_be_pasted(
    searched: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """They name the workspace, where it is not the default one, as it was typed."""
    place = "my runs"
    shutil.copytree(searched / "runs", tmp_path / place)
    client = MlflowClient(f"sqlite:///{tmp_path / place}/mlflow.db")
    (run,) = client.search_runs(["1"], "tags.mmsearch.trial = '2'")
    client.delete_run(run.info.run_id)
    assert warm_command("sync", "--workspace", place, folder=tmp_path).returncode == 0
    (run,) = client.search_runs(["1"], "tags.mmsearch.trial = '2'")
    lines = run.data.tags["mlflow.note.content"].splitlines()
    commands = [line.strip() for line in lines if line.startswith("    mmsearch ")]
    assert len(commands) == 3
    for command in commands:
        done = warm_command(*shlex.split(command)[1:], folder=tmp_path)
        assert done.returncode == 0, (command, done.stderr)


@contextmanager
def guarded() -> Iterator[str]:
    """Answer every request as a server does that asks for a login."""

    class Guard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"You are not authenticated."
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 (the name that the server calls)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_login_that_is_missing_names_the_variables(copied: Path, warm_command: Warm) -> None:
    """A search goes on without the server; other commands end."""
    with guarded() as uri:
        ran = warm_command(*RUN, "-n", 5, "--tracking-uri", uri, folder=copied)
        synced = warm_command("sync", "--tracking-uri", uri, folder=copied)
    assert ran.returncode == 0
    assert synced.returncode == 1
    for said in (ran.stdout, synced.stderr):
        words = " ".join(said.split())
        assert "MLFLOW_TRACKING_USERNAME" in words
        assert "MLFLOW_TRACKING_TOKEN" in words
