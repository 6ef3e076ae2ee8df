"""A connection to a Dask scheduler, and the workers that it tells of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.errors import InputError
from mmsearch.search.execution.dask_worker import Worker
from mmsearch.search.execution.executor import CallLostError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import BrokenExecutor

    from distributed import Client

    from mmsearch.search.execution.dask_pool import DaskPool

STEADY = 3
"""Looks with the same number of threads, after which no more workers are expected."""
LOOK_S = 2.0
"""Seconds between looks at the workers; the scheduler also tells at once when one comes or goes."""
CLOSE_S = 5.0
"""Seconds to wait for a connection to close."""
CUT_S = 10.0
"""Seconds of silence after which a worker that is gone was cut off; one that dies goes at once."""
_CHANGES = ("add-worker", "remove-worker")

_logger = logging.getLogger(__name__)


async def connect(address: Mapping[str, Any], timeout_s: float) -> Client:
    """Connect to a scheduler."""
    from distributed import Client  # noqa: PLC0415 (slow)

    client = Client(**address, asynchronous=True, set_as_default=False, timeout=timeout_s)
    try:
        await asyncio.wait_for(client, timeout_s + 1)
    except BaseException:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.close(), CLOSE_S)
        raise
    return client


def parse(cluster: str) -> tuple[dict[str, Any], int | None]:
    """Return how to reach a scheduler, or the number of local workers if one is to be started.

    Raises:
        InputError: it is neither an address, nor a scheduler file, nor `local:N`.
    """
    try:
        import dask  # noqa: PLC0415 (an extra)
        import distributed  # noqa: F401, PLC0415
    except ImportError as error:
        raise InputError("--dask needs an extra: pip install 'mmsearch[dask]'") from error
    _keep_off_the_terminal("distributed", "distributed.client", "tornado.application")
    # Each worker needs all words; Dask would advise against that on the terminal.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"})
    kind, _, rest = cluster.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest) > 0:
        return {}, int(rest)
    if "://" in cluster:
        return {"address": cluster}, None
    if Path(cluster).is_file():
        return {"scheduler_file": cluster}, None
    raise InputError(
        "--dask takes the address of a scheduler, such as tcp://host:8786, its scheduler file, or "
        f"local:N, and there is no file {cluster!r}"
    )


def refusal(cluster: str, error: Exception) -> str:
    """Describe why a scheduler cannot be reached, with the next step."""
    step = (
        "are its certificates named in Dask's configuration, under distributed.comm.tls?"
        if cluster.startswith("tls://")
        else "is it running there, and without TLS?"
    )
    return f"no Dask scheduler answers at {cluster}; {step} ({error_line(error)})"


class Connection:
    """A connection to the scheduler, which tells what workers there are."""

    def __init__(self, pool: DaskPool, client: Client) -> None:
        import dask  # noqa: PLC0415 (slow)

        self._pool, self._client = pool, client
        self._workers: dict[str, Worker] = {}
        self._hanging: dict[str, float] = {}
        """When workers that hang were last seen, by address."""
        self._changed = asyncio.Event()
        self._limit_s = float(
            dask.utils.parse_timedelta(dask.config.get("distributed.comm.timeouts.tcp"))
        )
        """Seconds without a sign of life, after which the transport gives a peer up, too."""

    async def follow(self) -> None:
        """Use the workers that come, until the connection is lost or the pool is shut down."""
        self._client.subscribe_topic("all", self._note_change)
        scheduler_id, n_empty, n_before, n_same = None, 0, 0, 0
        try:
            while self._client.status == "running":
                self._changed.clear()
                scheduler = self._client.scheduler
                if scheduler is None:
                    return
                try:
                    info = await asyncio.wait_for(scheduler.identity(n_workers=-1), self._limit_s)
                except OSError:
                    return
                # One that has been started again does not know what we subscribed to.
                if info["id"] != (scheduler_id := scheduler_id or info["id"]):
                    return
                self._update(info["workers"])
                is_hoping = any(worker.is_served for worker in self._workers.values())
                n_empty = 0 if is_hoping else n_empty + 1
                if n_empty > 1:
                    self._pool.say_empty()
                self._pool.count_slots()
                n_slots = self._pool.n_slots()
                n_same, n_before = n_same + 1 if n_slots == n_before else 0, n_slots
                if n_same >= STEADY:
                    self._pool.say_workers()
                if not await self._pool.wait(self._changed, LOOK_S):
                    return
        finally:
            for worker in self._workers.values():
                worker.end(CallLostError("the scheduler is away"))
            await asyncio.gather(
                *(worker.task for worker in self._workers.values() if worker.task),
                return_exceptions=True,
            )

    def _note_change(self, event: tuple[float, Any]) -> None:
        if isinstance(event[1], dict) and event[1].get("action") in _CHANGES:
            self._changed.set()

    def _update(self, listed: Mapping[str, Mapping[str, Any]]) -> None:
        """Drop workers that are gone or hang, and use new ones."""
        now = asyncio.get_running_loop().time()
        for address, worker in list(self._workers.items()):
            if address not in listed:
                was_cut = now - worker.changed_at > CUT_S
                self._drop(worker, CallLostError("it is gone") if was_cut else WorkerDiedError())
            elif worker.gone.done():
                self._drop(worker)
            elif not worker.answers(listed[address], now, self._limit_s):
                what = "hangs" if worker.may_run.is_set() else "is paused, as its memory is full"
                self._pool.say(f"worker {address} {what}; its segments go to others")
                self._hanging[address] = worker.last_seen
                self._drop(worker, CallLostError("its worker hangs"))
        for address, its in listed.items():
            is_hanging = self._hanging.get(address) == its["last_seen"]
            if address in self._workers or is_hanging or its["status"] != "running":
                continue
            self._hanging.pop(address, None)
            worker = Worker(address, its["nthreads"], its["last_seen"], now)
            self._workers[address] = worker
            # It says that it closes before it is gone, unless it dies.
            self._client.subscribe_topic(address, worker.note)
            worker.task = asyncio.create_task(self._pool.serve_worker(self._client, worker))

    def _drop(self, worker: Worker, error: BrokenExecutor | None = None) -> None:
        del self._workers[worker.address]
        if error is not None:
            worker.end(error)
        with contextlib.suppress(ValueError):  # the connection is lost
            self._client.unsubscribe_topic(worker.address)


class _ToLog(logging.Handler):
    """Passes warnings of Dask to the study's log file."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, whose warnings would otherwise be printed."""
        _logger.info("%s: %s", record.name, record.getMessage())


def _keep_off_the_terminal(*names: str) -> None:
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [_ToLog(logging.WARNING)]
        logger.propagate = False


def error_line(error: BaseException) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
