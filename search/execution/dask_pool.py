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
import traceback
import uuid
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mmsearch.counts import counted
from mmsearch.errors import InputError
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
    from concurrent.futures import BrokenExecutor

    from distributed import Client

    from mmsearch.data.split import Words

T = TypeVar("T")
_Call: TypeAlias = "tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]"

CONNECT_S = 10.0
"""Seconds to wait for a scheduler's first answer."""
GIVE_UP_S = 60.0
"""Seconds without a scheduler after which the search ends, to be resumed later."""
STEADY = 3
"""Looks with the same number of threads, after which no more workers are expected."""
LOOK_S = 2.0
"""Seconds between looks at the workers; the scheduler also tells at once when one comes or goes."""
N_NAMED = 4
"""Hosts that are named; of others only the number is said."""
CLOSE_S = 5.0
"""Seconds to wait for a connection to close."""
CUT_S = 10.0
"""Seconds of silence after which a worker that is gone was cut off; one that dies goes at once."""
MUST_AGREE = ("mmsearch", "torch", "numpy")
"""Packages of which a worker must have the search's version."""
_OF_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHANGES = ("add-worker", "remove-worker")

_logger = logging.getLogger(__name__)


# The next functions run on the workers. They return each error as a value, because Dask logs the
# arguments of a call that raises, and `_hand_over`'s arguments are the corpus.


class _Sealed:
    """Words that are printed in no log."""

    def __init__(self, words: Words) -> None:
        self.words = words

    def __repr__(self) -> str:
        return "words"


_words: dict[str, Words] = {}
"""Words that this worker was handed, by fingerprint."""


def _hand_over(fingerprint: str, sealed: _Sealed) -> tuple[str, str]:
    """Keep words, and import torch; return the processor, and why that failed or an empty text."""
    try:
        from mmsearch.search.execution import worker  # noqa: PLC0415 (where it is called)
        from mmsearch.search.study import provenance  # noqa: PLC0415

        worker.use(sealed.words)
        processor = provenance.versions()["processor"]
    except Exception as error:  # noqa: BLE001 (its kind is returned, as its text may have words)
        return "", type(error).__name__
    _words[fingerprint] = sealed.words
    return processor, ""


def _call(
    fingerprint: str, fn: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, str | None]:
    """Call a function; return its result and None, or its error and the traceback."""
    from mmsearch.search.execution import worker  # noqa: PLC0415 (where it is called)

    if fingerprint not in _words:
        return CallLostError("its worker was started again"), ""
    try:
        worker.use(_words[fingerprint])
        return fn(*args), None
    except Exception as error:  # noqa: BLE001 (raised again in the search)
        return error, "".join(traceback.format_exception(error))


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
        self._address, self._n_local = _parse(cluster)
        listed = "\n".join((*words.train, "", *words.dev, "", *words.vocabulary.characters))
        self._fingerprint = hashlib.sha256(listed.encode()).hexdigest()
        self._sealed = _Sealed(words)
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
        self._serving: list[_Worker] = []
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
            self._thread.join()

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
            self._lose(f"the Dask cluster {self._cluster} failed: {_line(error)}", error)
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
                client = await _connect(address, min(CONNECT_S, left_s))
            except Exception as error:
                _logger.info("no connection to %s", self._cluster, exc_info=True)
                if not self._connected.done():
                    self._lose(_refusal(self._cluster, error), error)
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
                await _Connection(self, client).follow()
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

    async def serve_worker(self, client: Client, worker: _Worker) -> None:
        """Prepare a worker, and let each of its threads make one call after another."""
        try:
            reason = await self._prepare(client, worker)
        except (WorkerDiedError, CallLostError):
            return
        except Exception as error:  # noqa: BLE001 (named)
            reason = _line(error)
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

    async def _prepare(self, client: Client, worker: _Worker) -> str:
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
            processor, failure = await worker.ask(client, _hand_over, *given)
        except (WorkerDiedError, CallLostError):
            raise
        except Exception as error:  # noqa: BLE001 (named)
            return f"the scheduler needs mmsearch, too ({_line(error)})"
        if failure:
            return f"it cannot be prepared ({failure})"
        ours = provenance.versions()["processor"]
        if processor != ours:
            self.say_once(
                f"some workers have another processor, {processor}; losses trained there can "
                f"differ in their last digits from those on {ours}"
            )
        return ""

    async def _serve_thread(self, client: Client, worker: _Worker) -> None:
        while not worker.gone.done():
            if not worker.may_run.is_set():
                resumed = asyncio.create_task(worker.may_run.wait())
                await _first(resumed, worker.gone)
                resumed.cancel()
                continue
            get = asyncio.create_task(self._calls.get())
            await _first(get, worker.gone)
            if worker.gone.done() or not worker.may_run.is_set():
                if get.done():
                    self._calls.put_nowait(get.result())
                get.cancel()
                continue
            future, fn, args = get.result()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value, raised_at = await worker.ask(client, _call, self._fingerprint, fn, args)
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


class _Connection:
    """A connection to the scheduler, which tells what workers there are."""

    def __init__(self, pool: DaskPool, client: Client) -> None:
        import dask  # noqa: PLC0415 (slow)

        self._pool, self._client = pool, client
        self._workers: dict[str, _Worker] = {}
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
            worker = _Worker(address, its["nthreads"], its["last_seen"], now)
            self._workers[address] = worker
            # It says that it closes before it is gone, unless it dies.
            self._client.subscribe_topic(address, worker.note)
            worker.task = asyncio.create_task(self._pool.serve_worker(self._client, worker))

    def _drop(self, worker: _Worker, error: BrokenExecutor | None = None) -> None:
        del self._workers[worker.address]
        if error is not None:
            worker.end(error)
        with contextlib.suppress(ValueError):  # the connection is lost
            self._client.unsubscribe_topic(worker.address)


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker of the cluster."""

    address: str
    n_threads: int
    last_seen: float
    """Time of its last heartbeat, by the scheduler's clock."""
    changed_at: float
    """When that time last changed, by our clock."""
    gone: asyncio.Future[BrokenExecutor] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Why it takes no further call, once it takes none."""
    may_run: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless it is paused, which Dask does when its memory is nearly full."""
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        """Begin with a worker that is not paused."""
        self.may_run.set()

    @property
    def host(self) -> str:
        """The host's address."""
        return self.address.partition("://")[2].rpartition(":")[0]

    @property
    def is_served(self) -> bool:
        """Whether it is being prepared or called."""
        return self.task is not None and not self.task.done()

    def answers(self, its: Mapping[str, Any], now: float, limit_s: float) -> bool:
        """Return whether its calls may be waited for.

        They may not if it has been silent for too long, or paused without executing any call.

        Args:
            its: what the scheduler tells about it.
            now: our clock.
            limit_s: seconds that it may be silent, or paused and idle.
        """
        self._set_status(its["status"])
        # What a paused worker has not begun, it will not begin.
        works = self.may_run.is_set() or its["metrics"].get("task_counts", {}).get("executing")
        if its["last_seen"] != self.last_seen:
            self.last_seen = its["last_seen"]
            self.changed_at = now if works else self.changed_at
        return now - self.changed_at <= limit_s

    def note(self, event: tuple[float, Any]) -> None:
        """Read what it tells, and the scheduler of it."""
        if not isinstance(event[1], dict):
            return
        match event[1]:
            case {"action": "closing-worker"} | {"action": "remove-worker", "expected": True}:
                self.end(CallLostError("its worker has left"))
            case {"action": "worker-status-change", "status": status}:
                self._set_status(status)

    def _set_status(self, status: str) -> None:
        if status == "running":
            self.may_run.set()
        else:
            self.may_run.clear()

    def end(self, error: BrokenExecutor) -> None:
        """Fail its calls, and give it no more."""
        if not self.gone.done():
            self.gone.set_result(error)

    async def ask(self, client: Client, fn: Callable[..., Any], *args: Any) -> Any:
        """Call a function on this worker.

        Raises:
            WorkerDiedError: it died.
            CallLostError: it has left or hangs, or the scheduler is away.
        """
        from distributed.client import ClosedClientError, FutureCancelledError  # noqa: PLC0415 (slow)
        from distributed.scheduler import KilledWorker  # noqa: PLC0415

        try:
            call = client.submit(
                fn,
                *args,
                key=f"mmsearch-{uuid.uuid4().hex}",
                workers=[self.address],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
        except ClosedClientError as error:
            raise CallLostError("the scheduler is away") from error
        answer = asyncio.ensure_future(call.result())
        await _first(answer, self.gone)
        if not answer.done():
            # Not cancelled: the client may be fetching results of other workers with it.
            answer.add_done_callback(_forget)
            call.release()
            raise self.gone.result()
        try:
            return answer.result()
        except KilledWorker as error:
            raise WorkerDiedError from error
        except (FutureCancelledError, asyncio.CancelledError, OSError) as error:
            lost = CallLostError("the scheduler is away")
            self.end(lost)
            raise lost from error
        except Exception as error:
            if client.status == "running":
                raise
            raise CallLostError("the scheduler is away") from error


async def _first(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    """Wait until either is done."""
    await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)


def _forget(answer: asyncio.Future[Any]) -> None:
    """Read the error of a call that was given up, or asyncio would report it."""
    if not answer.cancelled():
        answer.exception()


async def _connect(address: Mapping[str, Any], timeout_s: float) -> Client:
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


def _parse(cluster: str) -> tuple[dict[str, Any], int | None]:
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


def _refusal(cluster: str, error: Exception) -> str:
    """Describe why a scheduler cannot be reached, with the next step."""
    step = (
        "are its certificates named in Dask's configuration, under distributed.comm.tls?"
        if cluster.startswith("tls://")
        else "is it running there, and without TLS?"
    )
    return f"no Dask scheduler answers at {cluster}; {step} ({_line(error)})"


def _line(error: BaseException) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
