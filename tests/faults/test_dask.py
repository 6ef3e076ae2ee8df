"""Searches on a Dask cluster come to what the same search on one machine comes to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.mlflow.server import serve
from tests.support.assertions import assert_same_everywhere, curves, wait_for
from tests.support.background_search import Search
from tests.support.commands import COMMAND, environment
from tests.support.hosts import two_hosts
from tests.support.postgres import postgres_server
from tests.support.reference_studies import SHORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.dask_cluster import DaskCluster
    from tests.support.forked_cli import Warm
    from tests.support.hosts import Host

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


IS_IMPORTED = """
import sys
from mmsearch.search.cli import app
real = app.main
def main():
    try:
        real()
    finally:
        with open("imported", "w") as file:
            print("dask" in sys.modules, file=file)
app.main = main
"""
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
    for n_trials, patch in ((1, NOT_INSTALLED), (2, IS_IMPORTED)):
        done = warm_command("run", *words[:-2], "-n", n_trials, folder=tmp_path, patch=patch)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "imported").read_text() == "False\n"


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


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Make two machines."""
    with two_hosts() as made:
        yield made


def test_two_machines_search_as_the_page_says(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """The block of docs/cluster.md is run, with fewer and shorter trials."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "ssh" in b)
    (config,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "cluster.toml").write_text(config)
    one, two = hosts
    assert {one.address, two.address} == set(re.findall(r"10\.77\.0\.\d", block))
    block = block.replace(f"ssh {two.address}", " ".join(two.words()))
    assert "--trials 50" in block
    block = block.replace("--trials 50", "--trials 6 --steps 200 --json")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (
        (tmp_path / "printed.txt").open("w") as printed,
        (tmp_path / "log.txt").open("w") as log,
        subprocess.Popen(
            one.words("sh", "-c", block),
            cwd=tmp_path,
            env={**environment(tmp_path), "PATH": path},
            stdout=printed,
            stderr=log,
            start_new_session=True,
        ) as shell,
    ):
        try:
            assert shell.wait(300) == 0, (tmp_path / "log.txt").read_text()
        finally:
            os.killpg(shell.pid, signal.SIGKILL)
    assert json.loads((tmp_path / "printed.txt").read_text())["n_finished"] == 6
    logged = (tmp_path / "log.txt").read_text()
    for host in hosts:
        assert re.search(rf"Start worker at: +tcp://{host.address}:", logged)


def test_machine_whose_cable_is_cut_loses_its_segment_only(
    hosts: tuple[Host, Host], short: dict[int, Any], small_corpus: Path, tmp_path: Path
) -> None:
    """Its silence is noticed; its segment is trained by the other machine."""
    one, two = hosts
    # The least that Dask takes.
    env = {**environment(tmp_path), "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
    address = f"tcp://{one.address}:8786"
    dask = [sys.executable, "-m"]

    with ExitStack() as stack:

        def start(host: Host, *words: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    host.words(*words),
                    cwd=tmp_path,
                    env=env,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        start(one, *dask, "distributed.cli.dask_scheduler", "--host", one.address)
        for host in hosts:
            words = (address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
            start(host, *dask, "distributed.cli.dask_worker", *words)
        given = map(str, on(address, tmp_path, small_corpus))
        search = start(one, str(COMMAND), "run", *given)
        wait_for(Journal(tmp_path / "runs" / "few"), 3, search)
        two.cut()
        printed, _ = search.communicate(timeout=300)
        assert search.returncode == 0, printed
    assert curves(tmp_path / "runs", "few") == short
