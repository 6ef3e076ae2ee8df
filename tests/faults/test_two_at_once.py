"""Several commands in one workspace at once: two studies, and readers beside a search."""

import json
import threading
from pathlib import Path

from tests.support import plain_settings
from tests.support.assertions import assert_same_everywhere, curves, mlflow_runs, optuna_trials
from tests.support.background_search import Search
from tests.support.forked_cli import Command, Warm, warm

N_TRIALS = 3
N_READERS = 8
CONFIG = (
    f"[training]\n{plain_settings.TRAINING}[space]\nhidden_width = 32\n{plain_settings.SPACE}"
    f'[search]\nsampler = "random"\npruner = "none"\n{plain_settings.SEARCH}'
)


def words(folder: Path, corpus: Path, study: str) -> tuple[object, ...]:
    """Return the arguments of a search whose trials depend on its seed alone."""
    config = folder / "config.toml"
    config.write_text(CONFIG)
    given = ("--corpus", corpus, "--config", config, "--study", study, "--workers", 2)
    return (*given, "-n", N_TRIALS, "--steps", 4000)


def test_studies_begun_at_the_same_moment_share_a_new_workspace(
    small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """Three create one workspace, one Optuna database and one MLflow store, and all succeed."""
    studies = ("one", "two", "three")
    commands = [
        Command(("run", *words(tmp_path, small_corpus, study), "-n", 2), tmp_path)
        for study in studies
    ]
    for done in warm_command.together(commands):
        assert done.returncode == 0, done.stderr
        # On a slow machine they wait for the one that creates a database.
        said = done.stderr.splitlines()
        assert all(line.startswith("waiting for another process") for line in said), said
        assert "MLflow" not in done.stdout
    for study in studies:
        assert_same_everywhere(tmp_path / "runs", study, 2)


def test_readers_disturb_no_search_and_are_not_disturbed(
    small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """Readers by our commands, MLflow and Optuna get an answer each time."""
    apart = tmp_path / "undisturbed"
    apart.mkdir()
    warm_command("run", *words(apart, small_corpus, "s"), folder=apart, code=0)
    workspace, n_read = tmp_path / "runs", 0
    failures: list[Exception] = []
    is_over, looks = threading.Event(), list[int]()

    def look() -> None:
        try:
            while not is_over.is_set():
                client, _, runs = mlflow_runs(workspace, "s")
                for run in runs:
                    client.get_metric_history(run.info.run_id, "loss/dev")
                looks.append(len(optuna_trials(workspace, "s")))
        except Exception as error:  # noqa: BLE001 (held against it below)
            failures.append(error)

    given = words(tmp_path, small_corpus, "s")
    warm_command("run", *given, "-n", 1, folder=tmp_path, code=0)
    with warm() as reading:
        reading("trials", "--study", "s", folder=tmp_path)  # returns when its imports are done
        search = Search(warm_command, tmp_path, *given)
        search.wait()
        looking = threading.Thread(target=look)
        looking.start()
        commands = [
            Command(("trials", "--study", "s", *form), tmp_path)
            for form in [(), ("--json",)] * (N_READERS // 2)
        ]
        while not search.is_over:
            for command, done in zip(commands, reading.together(commands), strict=True):
                assert (done.returncode, done.stderr) == (0, "")
                assert "--json" not in command.words or len(json.loads(done.stdout)) <= N_TRIALS
            n_read += 1
        is_over.set()
        looking.join()
        done = search.end()

    assert failures == []
    assert min(n_read, len(looks)) >= 2
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_everywhere(workspace, "s", N_TRIALS)
    assert curves(workspace, "s") == curves(apart / "runs", "s")
