"""A Dask cluster as the executor: workers on any machine, which may come and go at any time.

A call waits here until a worker's thread is free, and is sent to that worker alone, so that Dask
never repeats one by itself. docs/cluster.md says what happens in each fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import platform
import signal
import threading
from concurrent.futures import Future
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mmsearch.counts import counted
from mmsearch.errors import InputError
from mmsearch.search.execution.dask_connection import (
    CLOSE_S,
    LOOK_S,
    Connection,
    connect,
    error_line,
    parse,
    refusal,
)
from mmsearch.search.execution.dask_worker import Sealed, first, hand_over, run_call
from mmsearch.search.execution.executor import (
    CallLostError,
    ExecutorLostError,
    SegmentExecutor,
    WorkerDiedError,
    idle_line,
)
from mmsearch.search.study import provenance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from distributed import Client

    from mmsearch.data.split import Words
    from mmsearch.search.execution.dask_worker import Worker

T = TypeVar("T")
_Call: TypeAlias = "tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]"

CONNECT_S = 10.0
"""Seconds to wait for a scheduler's first answer."""
GIVE_UP_S = 60.0
"""Seconds without a scheduler after which the search ends, to be resumed later."""
N_NAMED = 4
"""Hosts that are named; of others only the number is said."""
MUST_AGREE = ("mmsearch", "torch", "numpy")
"""Packages of which a worker must have the search's version."""
_OF_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_logger = logging.getLogger(__name__)
LEAVE_S = 60.0
"""Seconds that leaving a cluster may take, the processes of a local one included."""


class DaskPool(SegmentExecutor):
    """A `concurrent.futures` executor over a Dask cluster.

    A call fails with `WorkerDiedError` if its worker dies, and with `CallLostError` if its worker
    leaves or hangs, or the scheduler is away.
    """

    def __init__(
        self, cluster: str, words: Words, say: Callable[[str], None], n_lanes: int | None
    ) -> None:
        """Create the pool.

        Args:
            cluster: the scheduler's address, a scheduler file, or `local:N` for N new processes.
            words: what every worker is handed.
            say: called with each line that the user should read.
            n_lanes: the most calls that will be made at once; None for no limit.

        Raises:
            InputError: `cluster` is none of the three, or Dask is not installed.
        """
        self._cluster = cluster
        self._address, self._n_local = parse(cluster)
        listed = "\n".join((*words.train, "", *words.dev, "", *words.vocabulary.characters))
        self._fingerprint = hashlib.sha256(listed.encode()).hexdigest()
        self._sealed = Sealed(words)
        self.say = say
        """Called with each line that the user should read."""
        self._n_lanes = n_lanes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="dask", daemon=True)
        self._calls: asyncio.Queue[_Call] = asyncio.Queue()
        self._ending = asyncio.Event()
        self._connected: Future[None] = Future()
        self._lost: ExecutorLostError | None = None
        self._is_over = False
        """Whether nobody takes calls any more."""
        self._open = threading.Lock()
        """Held while that changes, and while a call is put in the queue."""
        self._serving: list[Worker] = []
        """The workers that are ready, or paused."""
        self._n_slots = 0
        self._said: set[str] = set()
        self._said_hosts: list[str] = []

    def start(self) -> None:
        """Connect to the scheduler.

        Raises:
            InputError: it does not answer.
        """
        # Signals are for the main thread, and children inherit the mask: a Ctrl-C would otherwise
        # kill local workers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_GROUP)
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._connected.result()

    def check(self) -> None:
        """Do nothing: workers may come later."""

    def n_slots(self) -> int:
        """Return the number of threads of the workers that are ready.

        Raises:
            ExecutorLostError: the scheduler has not answered for `GIVE_UP_S`.
        """
        if self._lost is not None:
            raise self._lost
        return self._n_slots

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` in a free thread of a worker."""
        future: Future[T] = Future()
        call = (future, partial(fn, **kwargs) if kwargs else fn, args)
        with self._open:
            if self._is_over:
                future.set_exception(CallLostError("the cluster is lost"))
            else:
                self._loop.call_soon_threadsafe(self._calls.put_nowait, call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (the base class's)
        """Leave the cluster, whose workers end their calls by themselves."""
        del cancel_futures
        if self._thread.ident is None:
            self._loop.close()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ending.set)
        if wait:
            self._thread.join(LEAVE_S)
            if self._thread.is_alive():
                _logger.warning("the cluster could not be left in %g s", LEAVE_S)

    def _run(self) -> None:
        """Stay connected until `shutdown`; this is the thread of all that follows."""
        # Dask leaves tasks that fail when a call is given up.
        self._loop.set_exception_handler(
            lambda _, context: _logger.info("in the cluster's loop: %s", context["message"])
        )
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            async with self._scheduler() as address:
                await self._stay_connected(address)
        except Exception as error:
            _logger.info("the cluster failed", exc_info=True)
            self._lose(f"the Dask cluster {self._cluster} failed: {error_line(error)}", error)
        finally:
            with self._open:
                self._is_over = True
            if self._lost is None and not self._ending.is_set():
                self._lose(f"the connection to the Dask cluster {self._cluster} has ended", None)
            await asyncio.sleep(0)  # until the last calls are in the queue
            self._fail_waiting()

    @contextlib.asynccontextmanager
    async def _scheduler(self) -> AsyncIterator[Mapping[str, Any]]:
        """Start a local cluster if one is asked for; yield how to reach the scheduler."""
        if self._n_local is None:
            yield self._address
            return
        from distributed import LocalCluster  # noqa: PLC0415 (slow)

        async with LocalCluster(
            n_workers=self._n_local,
            threads_per_worker=1,
            dashboard_address=None,
            asynchronous=True,
        ) as cluster:
            yield {"address": cluster.scheduler_address}

    async def _stay_connected(self, address: Mapping[str, Any]) -> None:
        """Connect, and connect again whenever the connection is lost, until `shutdown`."""
        deadline = self._loop.time() + CONNECT_S
        while not self._ending.is_set():
            left_s = deadline - self._loop.time()
            try:
                client = await connect(address, min(CONNECT_S, left_s))
            except Exception as error:
                _logger.info("no connection to %s", self._cluster, exc_info=True)
                if not self._connected.done():
                    self._lose(refusal(self._cluster, error), error)
                    return
                if self._loop.time() >= deadline:
                    self._lose(
                        f"the Dask scheduler at {self._cluster} has not answered for "
                        f"{GIVE_UP_S:.0f} s; run the same command again when it does",
                        error,
                    )
                    return
                await self.wait(asyncio.Event(), LOOK_S / 4)
                continue
            if not self._connected.done():
                self._connected.set_result(None)
            try:
                await Connection(self, client).follow()
            finally:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(client.close(), CLOSE_S)
            if not self._ending.is_set():
                deadline = self._loop.time() + GIVE_UP_S
                self.say(
                    f"the Dask scheduler at {self._cluster} does not answer; waiting up to "
                    f"{GIVE_UP_S:.0f} s for it and its workers"
                )

    async def wait(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Wait for an event or `shutdown`; return whether the pool goes on."""
        waits = [asyncio.create_task(each.wait()) for each in (event, self._ending)]
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return not self._ending.is_set()

    async def serve_worker(self, client: Client, worker: Worker) -> None:
        """Prepare a worker, and let each of its threads make one call after another."""
        try:
            reason = await self._prepare(client, worker)
        except (WorkerDiedError, CallLostError):
            return
        except Exception as error:  # noqa: BLE001 (named)
            reason = error_line(error)
        if reason:
            self.say_once(f"worker {worker.address} is not used: {reason}")
            return
        self._serving.append(worker)
        self._said.discard("empty")
        self.count_slots()
        try:
            threads = (self._serve_thread(client, worker) for _ in range(worker.n_threads))
            await asyncio.gather(*threads)
        finally:
            self._serving.remove(worker)
            self.count_slots()

    def count_slots(self) -> None:
        """Count the threads that can take calls; without any, fail the calls that wait for one."""
        ready = [worker for worker in self._serving if worker.may_run.is_set()]
        self._n_slots = sum(worker.n_threads for worker in ready)
        if not self._n_slots:
            self._fail_waiting()

    def say_workers(self) -> None:
        """Name the hosts that train, if they have changed; once, say that some threads are idle."""
        hosts = sorted({worker.host for worker in self._serving})
        if hosts and hosts != self._said_hosts:
            self._said_hosts = hosts
            more = f" and {len(hosts) - N_NAMED} more" if len(hosts) > N_NAMED else ""
            self.say(
                f"training on {counted(self._n_slots, 'worker thread')} of "
                f"{', '.join(hosts[:N_NAMED])}{more}"
            )
        if self._n_lanes is not None and self._n_slots > self._n_lanes and "idle" not in self._said:
            self._said.add("idle")
            self.say(idle_line(self._n_slots, self._n_lanes))

    async def _prepare(self, client: Client, worker: Worker) -> str:
        """Check a worker's versions and hand it the words; return why it is unfit, if it is."""
        # These functions are from the standard library, because a worker without mmsearch drops
        # its connection when it receives one of ours.
        python = await worker.ask(client, platform.python_version_tuple)
        if python[:2] != platform.python_version_tuple()[:2]:
            return f"it has Python {'.'.join(python)}, not {platform.python_version()}"
        for name in MUST_AGREE:
            try:
                theirs = await worker.ask(client, metadata.version, name)
            except metadata.PackageNotFoundError:
                return f"it has no {name}"
            if theirs != metadata.version(name):
                return f"it has {name} {theirs}, not {metadata.version(name)}"
        try:
            given = self._fingerprint, self._sealed
            processor, failure = await worker.ask(client, hand_over, *given)
        except (WorkerDiedError, CallLostError):
            raise
        except Exception as error:  # noqa: BLE001 (named)
            return f"the scheduler needs mmsearch, too ({error_line(error)})"
        if failure:
            return f"it cannot be prepared ({failure})"
        ours = provenance.versions()["processor"]
        if processor != ours:
            self.say_once(
                f"some workers have another processor, {processor}; losses trained there can "
                f"differ in their last digits from those on {ours}"
            )
        return ""

    async def _serve_thread(self, client: Client, worker: Worker) -> None:
        while not worker.gone.done():
            if not worker.may_run.is_set():
                resumed = asyncio.create_task(worker.may_run.wait())
                await first(resumed, worker.gone)
                resumed.cancel()
                continue
            get = asyncio.create_task(self._calls.get())
            await first(get, worker.gone)
            if worker.gone.done() or not worker.may_run.is_set():
                if get.done():
                    self._calls.put_nowait(get.result())
                get.cancel()
                continue
            future, fn, args = get.result()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value, raised_at = await worker.ask(client, run_call, self._fingerprint, fn, args)
            except Exception as error:  # noqa: BLE001 (raised in the search)
                future.set_exception(error)
                continue
            if raised_at is None:
                future.set_result(value)
            elif isinstance(value, CallLostError):
                worker.end(value)
                future.set_exception(value)
            else:
                value.add_note(f"in worker {worker.address}:\n{raised_at}")
                future.set_exception(value)

    def say_empty(self) -> None:
        """Say that there are no workers, once until there are some."""
        if "empty" not in self._said:
            self._said.add("empty")
            self.say(f"waiting for workers of the Dask scheduler at {self._cluster}")

    def say_once(self, line: str) -> None:
        """Say a line unless it was said."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def _lose(self, message: str, error: Exception | None) -> None:
        """Make every further call fail."""
        self._lost = ExecutorLostError(message)
        self._lost.__cause__ = error
        if not self._connected.done():
            refused = InputError(message)
            refused.__cause__ = error
            self._connected.set_exception(refused)

    def _fail_waiting(self) -> None:
        """Fail the calls that wait for a thread."""
        while not self._calls.empty():
            future, _, _ = self._calls.get_nowait()
            if future.set_running_or_notify_cancel():
                future.set_exception(CallLostError("there is no worker"))
