"""Where a study is shown is stored with it once that place has answered, and not before."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked_cli import Done, Warm
from tests.support.in_process import run_in_process
from tests.support.mlflow_server import free_port

MORE = ("run", "--study", "few", "--workers", 1)


def stored(folder: Path) -> dict[str, Any]:
    """Return the places in the study's file."""
    values = json.loads((folder / "runs/few/study.json").read_text())
    return {name: values[name] for name in ("storage", "tracking_uri")}


def flat(done: Done) -> str:
    """Return what a command printed, without line ends."""
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.fault
@pytest.mark.parametrize(
    ("option", "is_new"),
    [("--tracking-uri", True), ("MLFLOW_TRACKING_URI", False), ("--storage", True)],
)
def test_place_that_never_answered_is_not_stored(
    copied: Path, small_corpus: Path, warm_command: Warm, option: str, *, is_new: bool
) -> None:
    """The search goes on without it, and the next commands use the workspace's own."""
    kind = "postgresql://me@" if option == "--storage" else "http://"
    url = f"{kind}127.0.0.1:{free_port()}" + ("/db" if option == "--storage" else "")
    words: tuple[object, ...] = (*MORE, "-n", 5)
    if is_new:
        (copied / "runs").rename(copied / "old")
        words = ("run", "--corpus", small_corpus, "-n", 1, "--steps", 40, "--workers", 1)
    given: tuple[str, ...] = (option, url)
    env = {}
    if option == "MLFLOW_TRACKING_URI":
        given, env = (), {option: url}

    done = warm_command(*words, *given, folder=copied, code=0, **env)

    assert stored(copied) == {"storage": None, "tracking_uri": None}
    hint = flat(done).partition("mmsearch sync")[2].split(" study")[0]
    assert (f"{option} {url}" in hint) == bool(given)
    warm_command("sync", folder=copied, code=0)


def test_one_database_for_both_is_refused_before_anything_is_written(
    tmp_path: Path, copied: Path
) -> None:
    """The tables of Optuna and MLflow would collide in it."""
    both = ("--storage", "sqlite:///x.db", "--tracking-uri", f"sqlite:///{tmp_path}/x.db")
    for words in (("run", "--workspace", "new"), ("sync",)):
        before = sorted(tmp_path.rglob("*"))

        done = run_in_process(*words, *both, folder=tmp_path, code=2)
        assert "two databases" in done.error
        assert sorted(tmp_path.rglob("*")) == before
    assert stored(copied) == {"storage": None, "tracking_uri": None}


@pytest.mark.fault
def test_place_that_answered_is_stored_by_a_search_and_by_sync(
    copied: Path, warm_command: Warm
) -> None:
    """The next commands find it without being told."""
    uris = [f"sqlite:///{copied}/{name}.db" for name in ("first", "second")]
    warm_command(*MORE, "-n", 5, "--tracking-uri", uris[0], folder=copied, code=0)
    assert stored(copied) == {"storage": None, "tracking_uri": uris[0]}
    urls = [f"sqlite:///{copied}/optuna-{name}.db" for name in ("first", "second")]
    warm_command(*MORE, "-n", 6, "--storage", urls[0], folder=copied, code=0)
    assert stored(copied) == {"storage": urls[0], "tracking_uri": uris[0]}

    given = ("--storage", urls[1], "--tracking-uri", uris[1])
    warm_command("sync", *given, folder=copied, code=0)

    assert stored(copied) == {"storage": urls[1], "tracking_uri": uris[1]}
    warm_command(*MORE, "-n", 7, folder=copied, code=0)
    assert "0 trials sent" in flat(warm_command("sync", folder=copied))
