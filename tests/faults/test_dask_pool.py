"""Calls on a Dask cluster: what they come to when its processes die, hang, leave or come back."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

import dask
import pytest
from distributed import Client, get_worker
from distributed.core import Status
from distributed.security import Security

from mmsearch.data.corpus import Vocabulary
from mmsearch.data.split import Words
from mmsearch.errors import InputError
from mmsearch.search.execution import dask_pool
from mmsearch.search.execution.dask_pool import DaskPool
from mmsearch.search.execution.executor import (
    CallLostError,
    ExecutorLostError,
)
from tests.support.dask_cluster import DaskCluster, pid_after
from tests.support.mlflow_server import free_port
from tests.support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

TRAIN, DEV = ("quetzal", "xylophone"), ("jackdaws",)
WORDS = Words(TRAIN, DEV, Vocabulary.of("".join(TRAIN + DEV)))
SILENT_S = 11
"""Seconds of silence after which a peer is given up; the least that Dask takes."""


@pytest.fixture
def said() -> list[str]:
    """Collect what users read."""
    return []


@pytest.fixture
def pool(
    cluster: DaskCluster, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[DaskPool]:
    """Connect to the cluster, with a short patience."""
    monkeypatch.setattr(dask_pool, "GIVE_UP_S", 5.0)
    with dask.config.set({"distributed.comm.timeouts.tcp": f"{SILENT_S}s"}):
        made = DaskPool(cluster.address, WORDS, said.append, None)
        made.start()
        yield made
        made.shutdown()


def wait_for_slots(pool: DaskPool, n_slots: int) -> None:
    """Wait until so many calls can run at once."""
    wait_until(lambda: pool.n_slots() == n_slots)


def test_call_of_a_worker_that_leaves_is_lost_and_not_its_fault(
    cluster: DaskCluster, pool: DaskPool
) -> None:
    """SIGTERM, which a queue system sends, is a departure; the call can be made again."""
    pid = cluster.start_worker(nanny=True)
    wait_for_slots(pool, 1)
    call = pool.submit(pid_after, 600)
    wait_until(call.running)
    os.kill(pid, signal.SIGTERM)
    with pytest.raises(CallLostError):
        call.result(PATIENCE_S)
    wait_for_slots(pool, 0)


def test_call_without_a_worker_is_lost(cluster: DaskCluster, pool: DaskPool) -> None:
    """Nothing waits for a worker that may never come."""
    del cluster
    with pytest.raises(CallLostError):
        pool.submit(abs, -1).result(PATIENCE_S)


def test_worker_that_is_retired_has_left(cluster: DaskCluster, pool: DaskPool) -> None:
    """A cluster that is made smaller has not killed its workers."""
    cluster.start_worker()
    wait_for_slots(pool, 1)
    call = pool.submit(pid_after, 600)
    wait_until(call.running)
    with Client(cluster.address, set_as_default=False) as client:
        client.retire_workers(list(client.scheduler_info()["workers"]))
    with pytest.raises(CallLostError):
        call.result(PATIENCE_S)


def pause() -> None:
    """Pause this worker, as Dask does when the memory of its machine is nearly full."""
    worker = get_worker()
    worker.loop.add_callback(setattr, worker, "status", Status.paused)


def test_paused_worker_gets_no_call(cluster: DaskCluster, pool: DaskPool) -> None:
    """The scheduler would keep the call until the worker goes on."""
    cluster.start_worker("--memory-limit", "0")
    wait_for_slots(pool, 1)
    pool.submit(pause).result(PATIENCE_S)
    wait_for_slots(pool, 0)
    other = cluster.start_worker()
    wait_for_slots(pool, 1)
    assert pool.submit(os.getpid).result(PATIENCE_S) == other


def test_call_that_a_paused_worker_has_not_begun_is_lost(
    cluster: DaskCluster, pool: DaskPool
) -> None:
    """It can be made elsewhere."""
    cluster.start_worker("--memory-limit", "0", n_threads=2)
    wait_for_slots(pool, 2)
    # The pause is told to the scheduler after the next call has been sent.
    pool.submit(pause)
    for call in [pool.submit(pid_after, 1) for _ in range(3)]:
        with contextlib.suppress(CallLostError):
            call.result(PATIENCE_S)
    wait_for_slots(pool, 0)


def test_worker_started_again_at_its_address_is_prepared_again(
    cluster: DaskCluster, pool: DaskPool
) -> None:
    """It has lost the words, whether or not anybody saw that it was away."""
    address = ("--worker-port", str(free_port()))
    pid = cluster.start_worker(*address)
    wait_for_slots(pool, 1)
    call = pool.submit(pid_after, 600)
    wait_until(call.running)
    os.kill(pid, signal.SIGKILL)
    new = cluster.start_worker(*address)
    with pytest.raises(BrokenExecutor):
        call.result(PATIENCE_S)

    def answers() -> bool:
        try:
            return pool.submit(os.getpid).result(PATIENCE_S) == new
        except BrokenExecutor:
            return False

    wait_until(answers)


def test_hanging_worker_loses_its_call_and_may_come_back(
    cluster: DaskCluster, pool: DaskPool, said: list[str]
) -> None:
    """A worker that sends no heartbeat is given up as the transport gives up a silent peer."""
    pid = cluster.start_worker()
    wait_for_slots(pool, 1)
    call = pool.submit(pid_after, 10)
    wait_until(call.running)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(CallLostError):
        call.result(PATIENCE_S)
    assert any("hangs" in line for line in said)
    wait_for_slots(pool, 0)
    cluster.start_worker()
    wait_for_slots(pool, 1)
    os.kill(pid, signal.SIGCONT)
    wait_for_slots(pool, 2)


def test_scheduler_that_comes_back_needs_new_workers_only(
    cluster: DaskCluster, pool: DaskPool, said: list[str]
) -> None:
    """Calls of meanwhile are lost, and can be made again."""
    cluster.start_worker()
    wait_for_slots(pool, 1)
    call = pool.submit(pid_after, 600)
    wait_until(call.running)
    cluster.kill_scheduler()
    with pytest.raises(CallLostError):
        call.result(PATIENCE_S)
    wait_for_slots(pool, 0)
    cluster.start_scheduler()
    cluster.start_worker()
    wait_for_slots(pool, 1)
    assert pool.submit(abs, -1).result(PATIENCE_S) == 1
    assert sum("does not answer" in line for line in said) == 1


def test_scheduler_gone_for_good_ends_everything(cluster: DaskCluster, pool: DaskPool) -> None:
    """After a while there will be no slot again, and calls fail."""
    cluster.start_worker()
    wait_for_slots(pool, 1)
    cluster.kill_scheduler()

    def is_lost() -> bool:
        try:
            pool.n_slots()
        except ExecutorLostError:
            return True
        return False

    wait_until(is_lost)
    with pytest.raises(BrokenExecutor):
        pool.submit(abs, -1).result(PATIENCE_S)


def test_frozen_scheduler_is_waited_for(cluster: DaskCluster, pool: DaskPool) -> None:
    """A scheduler that hangs, and then does not, goes on with the workers that it has."""
    cluster.start_worker()
    wait_for_slots(pool, 1)
    os.kill(cluster.scheduler, signal.SIGSTOP)
    wait_until(lambda: pool.n_slots() == 0)
    os.kill(cluster.scheduler, signal.SIGCONT)
    wait_for_slots(pool, 1)
    assert pool.submit(abs, -1).result(PATIENCE_S) == 1


OTHER_TORCH = """
from importlib import metadata
true = metadata.version
metadata.version = lambda name: "1.0" if name == "torch" else true(name)
"""
NO_MMSEARCH = """
import sys
from importlib import metadata
true = metadata.version
metadata.version = lambda name: true("no such package" if name == "mmsearch" else name)
for name in [name for name in sys.modules if name.partition(".")[0] == "mmsearch"]:
    del sys.modules[name]
sys.modules["mmsearch"] = None
"""
CANNOT_BE_PREPARED = """
from mmsearch.search.execution import worker
def use(words):
    raise RuntimeError(f"no room for {words.train} and {words.dev}")
worker.use = use
"""


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (OTHER_TORCH, "torch 1.0"),
        (NO_MMSEARCH, "mmsearch"),
        (CANNOT_BE_PREPARED, "RuntimeError"),
    ],
)
def test_unfit_worker_is_named_once_and_never_called(
    cluster: DaskCluster, pool: DaskPool, said: list[str], patch: str, reason: str
) -> None:
    """It may run beside fit ones; no log has a word of the corpus."""
    unfit = cluster.start_worker(patch=patch)
    wait_until(lambda: any("is not used" in line for line in said))
    fit = cluster.start_worker()
    wait_for_slots(pool, 1)
    for _ in range(3):
        assert pool.submit(os.getpid).result(PATIENCE_S) == fit
    [line] = [line for line in said if "is not used" in line]
    assert reason in line
    os.kill(unfit, 0)  # raises if it has ended
    assert not any(word in cluster.logs() + "".join(said) for word in TRAIN + DEV)


@pytest.mark.parametrize("name", ["tcp://127.0.0.1:{port}", "tls://127.0.0.1:{port}"])
def test_address_without_a_scheduler_is_refused(name: str) -> None:
    """One line, with the address."""
    cluster = name.format(port=free_port())
    pool = DaskPool(cluster, WORDS, print, None)
    with pytest.raises(InputError, match=cluster), pool:
        pool.start()


def test_tls_needs_its_certificates_and_its_name(
    forks: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Without either, one line says so; with both, nothing else differs."""
    made = Security.temporary()
    (tmp_path / "cert.pem").write_text(made.tls_ca_file)
    (tmp_path / "key.pem").write_text(made.tls_client_key)
    names = {"ca-file": "cert.pem"}
    for role in ("client", "scheduler", "worker"):
        names |= {f"{role}.cert": "cert.pem", f"{role}.key": "key.pem"}
    settings = {f"distributed.comm.tls.{k}": str(tmp_path / v) for k, v in names.items()}
    env = {f"DASK_{k.replace('.', '__').replace('-', '_')}".upper(): v for k, v in settings.items()}
    cluster = DaskCluster(tmp_path, f"tls://127.0.0.1:{free_port()}", forks, env)
    cluster.start_scheduler()
    cluster.start_worker()
    try:
        wait_until(lambda: "Registered to" in cluster.logs())
        for address in (cluster.address, cluster.address.replace("tls", "tcp")):
            with pytest.raises(InputError), DaskPool(address, WORDS, print, None) as refused:
                refused.start()
        with dask.config.set(settings), DaskPool(cluster.address, WORDS, print, None) as pool:
            pool.start()
            wait_for_slots(pool, 1)
            assert pool.submit(abs, -1).result(PATIENCE_S) == 1
    finally:
        cluster.end()


@pytest.mark.parametrize("name", ["localhost", "local:0", "local:x", "no/such/file.json", ""])
def test_what_names_no_cluster_is_refused(name: str) -> None:
    """Before anything is connected to."""
    with pytest.raises(InputError, match="--dask"):
        DaskPool(name, WORDS, print, None)
