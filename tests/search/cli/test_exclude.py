"""`mmsearch exclude`: a trial stays in the study, and is not chosen."""

import json
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import ranked
from tests.support.assertions import curves, mlflow_runs
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process

REASON = "its words leak"


def best(folder: Path) -> list[int]:
    """Return the trials that can be chosen, best first."""
    return [record.number for record in ranked(Journal(folder / "runs/few").records())]


def shown(folder: Path) -> tuple[dict[int, str], dict[str, str], str]:
    """Return what MLflow and Optuna show: reasons by trial in both, and MLflow's best trial."""
    _, parents, children = mlflow_runs(folder / "runs", "few")
    tags = {
        int(run.data.tags["mmsearch.trial"]): run.data.tags["mmsearch.excluded"]
        for run in children
        if run.data.tags.get("mmsearch.excluded")
    }
    storage = f"sqlite:///{folder}/runs/optuna.db"
    attrs = optuna.load_study(study_name="few", storage=storage).user_attrs
    best_trial = parents[0].data.tags["mmsearch.best_trial"]
    return tags, attrs.get("mmsearch.excluded", {}), best_trial


def test_excluded_trial_is_not_chosen_until_that_is_undone(
    copied: Path, warm_command: Warm
) -> None:
    """The next best is; both views say why, also when they are made anew."""
    first, second, *others = best(copied)
    warm_command("exclude", first, "--reason", REASON, folder=copied, code=0)
    assert best(copied) == [second, *others]
    sampled = warm_command("sample", "-n", 1, "--json", folder=copied)
    assert json.loads(sampled.stdout)["trial"] == second
    trials: list[Any] = json.loads(warm_command("trials", "--json", folder=copied).stdout)
    assert {t["trial"]: t["excluded"] for t in trials if t["excluded"]} == {first: REASON}
    assert len(trials) == 4
    expected = ({first: REASON}, {f"{first}": REASON}, f"{second}")
    assert shown(copied) == expected
    anew = copied / "anew"
    shutil.copytree(copied / "runs", anew / "runs", ignore=shutil.ignore_patterns("*.db*"))
    warm_command("sync", folder=anew, code=0)
    assert shown(anew) == expected
    named = warm_command("sample", "--trial", first, "-n", 1, folder=copied)
    assert named.returncode == 0, "it can still be named"

    warm_command("exclude", first, "--undo", folder=copied, code=0)

    assert best(copied) == [first, second, *others]
    assert shown(copied) == ({}, {}, f"{first}")


def test_search_goes_on_as_if_nothing_were_excluded(
    copied: Path, searched: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """The sampler still learns from the trial."""
    shutil.copytree(searched / "runs", tmp_path / "plain/runs")
    warm_command("exclude", best(copied)[0], "--reason", "x", folder=copied, code=0)
    for folder in (copied, tmp_path / "plain"):
        more = ("run", "--study", "few", "-n", 5, "--workers", 1)
        warm_command(*more, folder=folder, code=0)
    assert curves(copied / "runs", "few") == curves(tmp_path / "plain/runs", "few")


def test_winner_of_a_confirmation_that_is_excluded_makes_room(
    reconfirmed: Path, warm_command: Warm
) -> None:
    """The other candidate is chosen, from the trainings that are there."""
    folder = reconfirmed
    chosen = json.loads(warm_command("sample", "-n", 1, "--json", folder=folder).stdout)["trial"]
    warm_command("exclude", chosen, "--reason", REASON, folder=folder, code=0)
    now = json.loads(warm_command("sample", "-n", 1, "--json", folder=folder).stdout)
    assert now["trial"] != chosen
    assert "seed" in now["model"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        *(((0, *words), "reason") for words in ((), ("--reason", "a", "--undo"))),
        *(((0, "--reason", reason), "reason") for reason in (" ", "a\nb")),
        ((99, "--reason", "a"), "99"),
    ],
)
def test_exclusion_needs_a_trial_and_a_reason(
    copied: Path, words: tuple[object, ...], named: str
) -> None:
    done = run_in_process("exclude", *words, folder=copied)
    assert (done.exit_code, named in done.output + done.error) == (2, True), done
    assert not list(copied.rglob("excluded.json"))
