"""`mmsearch delete`: a study goes, with its views; other studies and looks at test splits stay."""

import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from tests.support.fault_injection import MLFLOW, OPTUNA, Kill, raising
from tests.support.forked_cli import Warm
from tests.support.in_process import run_in_process
from tests.support.terminal import begin, read

DELETE = ("delete", "few", "--yes")


def left(folder: Path) -> tuple[list[str], int, set[str]]:
    """Return what is left: Optuna's studies, active runs in MLflow but final tests, folders."""
    storage = f"sqlite:///{folder}/runs/optuna.db"
    names = [n for n in optuna.get_all_study_names(storage) if not n.startswith("mmsearch/test")]
    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(places, "tags.mmsearch.kind != 'final-test'")
    return names, len(runs), {path.parent.name for path in folder.glob("runs/*/study.json")}


def test_study_goes_and_its_look_at_the_test_split_stays(
    copied: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """The same words in a new study have a test split that is used up."""
    warm_command("final-test", "--trial", 0, folder=copied, code=0)
    warm_command(*DELETE, folder=copied, code=0)
    assert left(copied) == ([], 0, set())
    assert not (copied / "runs/few").exists()
    (line,) = (copied / "runs/logs/deleted.jsonl").read_text().splitlines()
    assert json.loads(line)["trials"] == {"complete": 4}

    again = ("run", "--corpus", small_corpus, "-n", 1, "--steps", 40, "--workers", 1)
    warm_command(*again, folder=copied, code=0)
    assert left(copied)[0] == ["few"]
    assert left(copied)[1] == 2
    warm_command("final-test", "--trial", 0, "--anyway", folder=copied, code=3)


def test_other_studies_stay_and_a_new_one_of_the_same_name_starts_empty(
    copied: Path, small_corpus: Path, warm_command: Warm
) -> None:
    """MLflow reserves the name of a deleted experiment, and would restore its runs with it."""
    words = ("run", "--corpus", small_corpus, "-n", 1, "--steps", 40, "--workers", 1, "--study")
    warm_command(*words, "more", folder=copied, code=0)
    warm_command(*DELETE, folder=copied, code=0)
    assert left(copied) == (["more"], 2, {"more"})

    warm_command(*words, "few", folder=copied, code=0)

    assert left(copied) == (["more", "few"], 4, {"few", "more"})


@pytest.mark.parametrize(
    "kill",
    [
        Kill(call=MLFLOW + "delete_run", at="after", nth=2),
        Kill(call=OPTUNA + "delete_study", at="after"),
        Kill(call="shutil:rmtree", at="after"),
    ],
    ids=str,
)
def test_killed_deletion_is_finished_by_the_same_command(
    copied: Path, warm_command: Warm, kill: Kill
) -> None:
    warm_command(*DELETE, folder=copied, patch=kill.patch, code=-signal.SIGKILL)
    assert left(copied)[2] == {"few"}
    warm_command(*DELETE, folder=copied, code=0)
    assert left(copied) == ([], 0, set())


def test_store_that_is_away_leaves_the_study(copied: Path, warm_command: Warm) -> None:
    away = raising(MLFLOW + "search_experiments", "ConnectionError('away')")
    warm_command(*DELETE, folder=copied, patch=away, code=1)
    assert left(copied)[0::2] == (["few"], {"few"})


@pytest.mark.parametrize(
    ("answer", "code"),
    [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1), ("\x03", 128 + signal.SIGINT)],
    ids=["yes", "no", "enter", "end of file", "Ctrl-C"],
)
def test_terminal_is_asked_first(copied: Path, answer: str, code: int) -> None:
    """The question names the study and its size; all but a yes leaves the study."""
    process, terminal = begin(copied, "delete", "few", is_controlling=True)
    asked = b""
    while b"?" not in asked:
        more = read(terminal)
        assert more, asked
        asked += more
    assert b"'few'" in asked
    assert b"4 trials" in asked

    # Python heeds a Ctrl-C that comes between the question and its reading at the next key only.
    time.sleep(1)
    os.write(terminal, answer.encode())

    written = b"".join(iter(lambda: read(terminal), b""))
    os.close(terminal)
    assert process.wait(60) == code, written
    assert b"Traceback" not in written
    assert left(copied)[2] == (set() if code == 0 else {"few"})


def test_nothing_is_deleted_without_being_asked(copied: Path) -> None:
    for words in (("delete", "few"), ("delete", "few", "--json"), ("delete", "other", "--yes")):
        run_in_process(*words, folder=copied, code=2)
    assert left(copied)[2] == {"few"}
