"""Searches on a Dask cluster come to what the same search on one machine comes to."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.mlflow.server import serve
from tests.support.assertions import assert_same_everywhere, curves
from tests.support.background_search import Search
from tests.support.postgres import postgres_server
from tests.support.reference_studies import SHORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.dask_cluster import DaskCluster
    from tests.support.forked_cli import Warm

QUICK = "from mmsearch.search.execution import dask_pool; dask_pool.GIVE_UP_S = 4.0"
"""Python that shortens the patience with a scheduler that is away."""


def on(cluster: str, folder: Path, corpus: Path) -> list[object]:
    """Return the arguments of the same search on a cluster."""
    words = SHORT.words(folder, corpus)
    place = words.index("--workers")
    return [*words[:place], *words[place + 2 :], "--study", "few", "--dask", cluster]


def test_study_survives_what_can_happen_to_a_cluster(
    cluster: DaskCluster,
    short: dict[int, Any],
    small_corpus: Path,
    warm_command: Warm,
    tmp_path: Path,
) -> None:
    """Workers and schedulers die and come, and the search goes on; then it is killed, too.

    Both views are in PostgreSQL, and MLflow's server takes the artifacts.
    """
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server())
        mlflow = stack.enter_context(
            serve(server.new_database("tracked"), tmp_path / "artifacts", log_folder=tmp_path)
        )
        views = ("--storage", server.url, "--tracking-uri", mlflow.base)
        for _ in range(3):
            cluster.start_worker()
        words = (*on(cluster.address, tmp_path, small_corpus), *views)
        search = Search(warm_command, tmp_path, *words)
        search.wait()
        with search.paused():
            os.kill(cluster.workers.pop(), signal.SIGKILL)
        search.wait()
        with search.paused():
            cluster.kill_workers()
        cluster.start_worker(n_threads=2)
        search.wait()
        with search.paused():
            cluster.kill_scheduler()
        cluster.start_scheduler()
        cluster.start_worker()
        search.wait()
        search.interrupt(signal.SIGKILL)
        assert search.end().returncode == -signal.SIGKILL
        here = (*SHORT.words(tmp_path, small_corpus), "--study", "few", *views)
        done = warm_command("run", *here, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert curves(tmp_path / "runs", "few") == short
        places = {"storage": server.url, "tracking_uri": mlflow.base}
        assert_same_everywhere(tmp_path / "runs", "few", SHORT.n_trials, **places)
    words_of_the_list = re.findall(r"[a-z]{7,}", small_corpus.read_text())
    assert not [word for word in words_of_the_list if re.search(rf"\b{word}\b", cluster.logs())]


def test_search_without_a_scheduler_ends_and_goes_on_later(
    cluster: DaskCluster,
    short: dict[int, Any],
    small_corpus: Path,
    warm_command: Warm,
    tmp_path: Path,
) -> None:
    """It says so, exits with 1 and has failed no trial; the same line resumes it."""
    words = on(cluster.address, tmp_path, small_corpus)
    cluster.start_worker()
    search = Search(warm_command, tmp_path, *words, patch=QUICK)
    search.wait()
    with search.paused():
        cluster.kill_scheduler()
    done = search.end()
    assert done.returncode == 1
    assert cluster.address in done.stderr
    cluster.start_scheduler()
    cluster.start_worker()
    done = warm_command("run", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert curves(tmp_path / "runs", "few") == short


def test_interrupt_without_workers_ends_the_search(
    cluster: DaskCluster, small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """Nothing is in flight, so that nothing is waited for."""
    cluster.start_worker()
    search = Search(warm_command, tmp_path, *on(cluster.address, tmp_path, small_corpus))
    search.wait()
    with search.paused():
        cluster.kill_workers()
    search.interrupt(signal.SIGINT)
    done = search.end()
    assert done.returncode == 128 + signal.SIGINT
    assert "resume:" in done.stdout


def test_cluster_confirms_and_replays(
    cluster: DaskCluster, copied: Path, warm_command: Warm
) -> None:
    """`local:N` needs no scheduler."""
    cluster.start_worker(n_threads=2)
    one = ("confirm", "--top", 1, "--seeds", 1)
    for words in (one, ("replay", "--search")):
        done = warm_command(*words, "--dask", cluster.address, "--json", folder=copied)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_reproduced"]
    done = warm_command("replay", "--dask", "local:1", "--json", folder=copied)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_reproduced"]


NOT_INSTALLED = "import sys; sys.modules['dask'] = sys.modules['distributed'] = None"


def test_search_needs_dask_only_where_it_is_asked_for(
    small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """Without the extra all else works, and --dask names it; nothing is created."""
    words = on("local:2", tmp_path, small_corpus)
    done = warm_command("run", *words, folder=tmp_path, patch=NOT_INSTALLED)
    assert done.returncode == 2
    assert "mmsearch[dask]" in done.stderr
    assert not (tmp_path / "runs" / "few" / "study.json").exists()
    done = warm_command("run", *words[:-2], "-n", 1, folder=tmp_path, patch=NOT_INSTALLED)
    assert done.returncode == 0, done.stderr


def test_address_without_a_scheduler_creates_no_study(
    small_corpus: Path, warm_command: Warm, tmp_path: Path
) -> None:
    """The search exits with 2, and can be started anew with other settings."""
    words = on("tcp://127.0.0.1:1", tmp_path, small_corpus)
    done = warm_command("run", *words, folder=tmp_path)
    assert done.returncode == 2
    assert "tcp://127.0.0.1:1" in done.stderr
    assert not (tmp_path / "runs" / "few" / "study.json").exists()
    both = warm_command("run", *words, "--workers", 2, folder=tmp_path)
    assert both.returncode == 2
    assert "--workers" in both.stderr
