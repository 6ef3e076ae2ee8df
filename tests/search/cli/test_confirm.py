"""`mmsearch confirm` as a person runs it: fresh seeds in real processes, seen in MLflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient

from mmsearch.search.results.selection import confirmations
from mmsearch.tracking.journal.journal import Journal
from tests.support.commands import COMMAND, environment
from tests.support.fault_injection import APPEND_SEGMENT, Kill
from tests.support.in_process import run_in_process

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

    from tests.support.forked_cli import Warm

WORDS = ("confirm", "--top", 2, "--seeds", 3)


def journal(folder: Path) -> Journal:
    """Give the study's journal."""
    return Journal(folder / "runs/few")


def runs(folder: Path) -> tuple[list[Run], list[Run]]:
    """Read MLflow as a person with a plain client: parents and confirmations."""
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("mmsearch/few")
    assert experiment is not None
    found = list(client.search_runs([experiment.experiment_id]))
    kinds = {
        kind: [run for run in found if run.data.tags["mmsearch.kind"] == kind]
        for kind in ("study", "confirm")
    }
    return kinds["study"], kinds["confirm"]


def results(folder: Path) -> dict[str, Any]:
    """Give what must be equal between two confirmations of one study."""
    return {
        record.name: (record.spec, record.state, [line.weights_sha256 for line in record.curve])
        for record in confirmations(journal(folder)).records()
    }


def assert_whole(folder: Path, n_repeats: int) -> None:
    """Hold the journal and MLflow against each other: each training once, closed, nested."""
    records = confirmations(journal(folder)).records()
    parents, children = runs(folder)
    assert len(parents) == 1
    assert len(records) == len(children) == n_repeats
    by_name = {run.info.run_name: run for run in children}
    for record in records:
        run = by_name[record.name]
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.tags["mmsearch.trial"] == str(record.facts["trial"])
        assert run.data.tags["mmsearch.seed"] == str(record.spec.seed)
        assert run.data.metrics["dev_loss"] == record.dev_loss


def test_confirm_trains_each_candidate_from_each_seed(copied: Path, warm_command: Warm) -> None:
    """Six trainings, once each, everywhere; again it does nothing; the choice is what is used."""
    done = warm_command(*WORDS, folder=copied)
    assert done.returncode == 0, done.stderr
    assert_whole(copied, 6)
    assert "in the search than its mean over fresh seeds" in " ".join(done.stdout.split())
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    before = results(copied)
    said = json.loads(warm_command(*WORDS, "--json", folder=copied).stdout)
    assert results(copied) == before
    assert_whole(copied, 6)
    best = said["candidates"][0]
    losses = [seed["dev_loss"] for seed in best["seeds"]]
    assert best["mean"] == pytest.approx(sum(losses) / 3)
    assert best["mean"] <= said["candidates"][1]["mean"]
    assert said["chosen"]["dev_loss"] == min(losses)
    assert len({seed["seed"] for seed in best["seeds"]}) == 3
    name = f"trial {said['chosen']['trial']}, seed {said['chosen']['nth_seed']}"
    sampled = json.loads(warm_command("sample", "-n", 3, "--json", folder=copied).stdout)
    assert (sampled["model"], sampled["dev_loss"]) == (name, min(losses))
    parents, _ = runs(copied)
    assert parents[0].data.tags["mmsearch.chosen"] == name
    assert parents[0].data.metrics["confirmed_dev_loss"] == best["mean"]
    assert f"Chosen: {name}." in parents[0].data.tags["mlflow.note.content"]
    assert parents[0].info.status == "FINISHED"


def test_more_seeds_and_other_steps_add_to_what_is_there(copied: Path, warm_command: Warm) -> None:
    """Nothing that was trained is trained again, and longer training is kept apart."""
    assert warm_command("confirm", "--top", 2, "--seeds", 1, folder=copied).returncode == 0
    first = results(copied)
    assert warm_command("confirm", "--top", 2, "--seeds", 2, folder=copied).returncode == 0
    assert {name: value for name, value in results(copied).items() if name in first} == first
    assert_whole(copied, 4)
    words = ("confirm", "--top", 2, "--seeds", 1, "--steps", 600, "--json")
    longer = json.loads(warm_command(*words, folder=copied).stdout)
    assert longer["flattery"] is None
    records = confirmations(journal(copied)).records()
    assert [record.spec.n_steps for record in records] == [400] * 4 + [600] * 2


def test_candidates_see_the_same_minibatches(copied: Path, warm_command: Warm) -> None:
    """The nth seed is one for all: what differs is the candidate."""
    assert warm_command("confirm", "--top", 3, "--seeds", 2, folder=copied).returncode == 0
    records = confirmations(journal(copied)).records()
    seeds: dict[int, set[int]] = {record.facts["nth_seed"]: set() for record in records}
    for record in records:
        seeds[record.facts["nth_seed"]].add(record.spec.seed)
    assert [len(each) for each in seeds.values()] == [1, 1]
    searched = {record.spec.seed for record in journal(copied).records()}
    assert not searched & {seed for each in seeds.values() for seed in each}


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, searched: Path, warm_command: Warm
) -> dict[str, Any]:
    """What a longer confirmation gives when nobody stops it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(["cp", "-r", searched / "runs", folder / "runs"], check=True)
    done = warm_command(*WORDS, "--steps", 8000, "--workers", 1, folder=folder)
    assert done.returncode == 0, done.stderr
    return results(folder)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_confirmation_goes_on_as_if_undisturbed(
    copied: Path, warm_command: Warm, undisturbed: dict[str, Any], stop: signal.Signals
) -> None:
    """SIGTERM and kill -9 cost segments in flight, and change no number."""
    words = (*WORDS, "--steps", 8000, "--workers", 2)
    process = subprocess.Popen(
        [COMMAND, *map(str, words)],
        cwd=copied,
        env=environment(copied),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for _ in range(1200):
        folders = copied.glob("runs/few/confirm/*/curve.jsonl")
        if sum(path.read_bytes().count(b"\n") for path in folders) >= 5:
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    if stop is signal.SIGTERM:
        os.killpg(process.pid, stop)
    else:
        process.send_signal(stop)
    output, _ = process.communicate(timeout=60)
    if stop is signal.SIGTERM:
        assert process.returncode == 143, output
        assert "mmsearch confirm --top 2 --seeds 3 --steps 8000" in output
    refused = warm_command("final-test", folder=copied)
    assert refused.returncode == 3
    assert "trainings of the confirmation are missing" in refused.stderr
    done = warm_command(*words, folder=copied)
    assert done.returncode == 0, done.stderr
    assert results(copied) == undisturbed
    assert_whole(copied, 6)


def test_trainings_that_no_plan_wants_are_given_up(copied: Path, warm_command: Warm) -> None:
    """A smaller plan after a killed one leaves nothing RUNNING, and a larger one trains it anew."""
    words = (*WORDS, "--steps", 8000, "--workers", 2)
    kill = Kill(call=APPEND_SEGMENT, at="after", named=", 1, SegmentRecord(")
    assert warm_command(*words, folder=copied, patch=kill.patch).returncode == -signal.SIGKILL
    assert warm_command("confirm", "--top", 1, "--seeds", 1, folder=copied).returncode == 0
    records = confirmations(journal(copied)).records()
    assert {record.state for record in records} == {"PRUNED", "COMPLETE"}
    assert {run.info.status for run in runs(copied)[1]} == {"KILLED", "FINISHED"}
    again = ("confirm", "--top", 1, "--seeds", 1, "--steps", 8000)
    assert warm_command(*again, folder=copied).returncode == 0
    assert confirmations(journal(copied)).records()[-1].state == "COMPLETE"


def test_no_choice_is_no_success(copied: Path, warm_command: Warm) -> None:
    """Where every candidate diverges nothing is chosen, and a script is told."""
    for record in journal(copied).records():
        path = journal(copied).trial_folder(record.number) / "spec.json"
        facts = json.loads(path.read_text())
        facts["spec"]["learning_rate"] = 1e30 * (1 + record.number)
        path.write_text(json.dumps(facts))
    done = warm_command("confirm", "--top", 1, "--seeds", 2, folder=copied)
    assert done.returncode == 1
    assert "all diverged" in done.stdout
    assert "it diverged from a fresh seed" in " ".join(done.stdout.split())


def test_what_is_damaged_beside_a_study_stops_no_search(copied: Path, warm_command: Warm) -> None:
    """A search needs neither ledger nor plan: it says what is wrong, and MLflow is closed."""
    (copied / "runs/few/confirm.json").write_text("x")
    env = {"HOME": "/dev/null", "MMSEARCH_LEDGER": "/dev/null"}
    done = warm_command("run", "--study", "few", "-n", 5, folder=copied, **env)
    assert done.returncode == 0, done.stderr
    (parent,) = runs(copied)[0]
    assert parent.info.status == "FINISHED"
    assert "confirm.json" in parent.data.tags["mlflow.note.content"]


def test_sync_rebuilds_confirmations(copied: Path, warm_command: Warm) -> None:
    """The workspace alone is enough to fill an emptied MLflow again, fresh seeds included."""
    assert warm_command("confirm", "--top", 2, "--seeds", 1, folder=copied).returncode == 0
    for path in (copied / "runs").glob("mlflow.db*"):
        path.unlink()
    assert warm_command("sync", folder=copied).returncode == 0
    assert_whole(copied, 2)


def test_wrong_numbers_are_refused(copied: Path) -> None:
    """A plan that cannot be trained is refused before anything is written."""
    for words in (("--seeds", 0), ("--steps", 3), ("--steps", 10**24), ("--study", "none")):
        assert run_in_process("confirm", *words, folder=copied).exit_code == 2
    assert not (copied / "runs/few/confirm.json").exists()
