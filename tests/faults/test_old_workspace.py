"""A workspace that version 0.1 made can be opened, resumed and replayed by this version.

`workspace_0_1.tar.gz` is what commit d196f30 left of a study of 200 made-up words: trials 0 to 4
complete, 5 to 9 pruned, trial 10 ended by `kill -9` after two of five segments; then the best two
confirmed from two seeds. MLflow's database and its artifacts, which are views, were dropped.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import TrialRecord, TrialState, counts_by_state
from tests.support.forked_cli import Warm

PACKED = Path(__file__).parents[1] / "fixtures/workspace_0_1.tar.gz"
STUDY, N_OLD, UNFINISHED = "made-up", 10, 10
RUN = ("run", "--study", STUDY, "--workers", 1, "--quiet")


def unpack(folder: Path) -> Path:
    """Unpack the workspace, and correct the path of its corpus."""
    with tarfile.open(PACKED) as packed:
        packed.extractall(folder, filter="data")
    path = folder / "runs" / STUDY / "study.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "corpus": str(folder / values["corpus"])}))
    return folder


def records(folder: Path) -> list[TrialRecord]:
    """Read its trials."""
    return Journal(folder / "runs" / STUDY).records()


def facts(record: TrialRecord) -> tuple[Any, ...]:
    """Return what no version may change of a trial: its spec, its end and its losses."""
    losses = [(line.step, line.dev_loss, line.weights_sha256) for line in record.curve]
    return record.spec, record.state, record.dev_loss, losses


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return the workspace as 0.1 left it."""
    return unpack(tmp_path)


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory, warm_command: Warm) -> Path:
    """Resume the search for two more finished trials."""
    folder = unpack(tmp_path_factory.mktemp("gone-on"))
    warm_command(*RUN, "-n", N_OLD + 2, folder=folder, code=0)
    return folder


def test_search_resumes_where_0_1_was_killed(old: Path, gone_on: Path) -> None:
    """The running trial is finished, and exactly the asked number is added."""
    before, after = records(old), records(gone_on)
    assert counts_by_state(before)[TrialState.RUNNING] == 1
    assert before[UNFINISHED].state == "RUNNING"
    assert [record.number for record in after] == list(range(N_OLD + 2))
    assert {record.state for record in after} <= {"COMPLETE", "PRUNED"}
    assert facts(after[UNFINISHED])[-1][:2] == facts(before[UNFINISHED])[-1]


def test_old_trials_keep_their_specs_and_scores(old: Path, gone_on: Path) -> None:
    """A later field is not written into older trials."""
    before, after = records(old)[:N_OLD], records(gone_on)[:N_OLD]
    assert list(map(facts, after)) == list(map(facts, before))


def test_goes_on_with_the_same_settings(gone_on: Path, warm_command: Warm) -> None:
    """The settings that 0.1 stored keep their meaning: its own config is not another search."""
    warm_command("init", "same.toml", "--study", STUDY, folder=gone_on, code=0)
    warm_command(*RUN, "-n", N_OLD + 2, "--config", "same.toml", folder=gone_on, code=0)


def test_trials_are_listed(old: Path, warm_command: Warm) -> None:
    """Each has its score, and the running one is listed as stopped."""
    done = warm_command("trials", "--json", folder=old, code=0)
    assert {row["trial"]: row["dev_loss"] for row in json.loads(done.stdout)} == {
        record.number: record.dev_loss for record in records(old)
    }
    assert warm_command("trials", folder=old).stdout.count("stopped") == 1


def test_old_trial_is_reproduced(old: Path, warm_command: Warm) -> None:
    """A trial of 0.1 is trained again to the same result."""
    done = warm_command("replay", 3, "--json", folder=old, code=0)
    assert json.loads(done.stdout)["is_reproduced"]


def test_confirmation_goes_on(gone_on: Path, warm_command: Warm) -> None:
    """Seeds that 0.1 trained count, and one more is added."""
    before = Journal(gone_on / "runs" / STUDY, "confirm").records()
    done = warm_command(
        "confirm", "--top", 2, "--seeds", 3, "--workers", 1, "--json", folder=gone_on
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_missing"] == 0
    after = Journal(gone_on / "runs" / STUDY, "confirm").records()
    assert list(map(facts, after[: len(before)])) == list(map(facts, before))
    assert len(after) > len(before)


def test_report_is_written(old: Path, warm_command: Warm) -> None:
    """It has the best trial that 0.1 found."""
    warm_command("report", "old.html", folder=old, code=0)
    assert "Trial 3" in (old / "old.html").read_text()
