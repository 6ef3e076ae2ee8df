"""A pool of worker processes, each of which may die without affecting the others."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import queue
import signal
import threading
import time
import traceback
from concurrent.futures import Future
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mmsearch.errors import MMSearchError
from mmsearch.search.execution.executor import CallLostError, SegmentExecutor, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

T = TypeVar("T")
_Call: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]"

_Answer: TypeAlias = "tuple[Any, str | None]"
"""(result, None), or (the error, its traceback)."""
_Submitted: TypeAlias = "tuple[Future[Any], _Call]"
_OF_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal, `timeout` or systemd sends to all processes of a group."""
MAX_STARTS = 3
"""Attempts to start a worker that is killed while it starts."""
RESTART_S = 1.0
"""Seconds for which a worker that cannot be started again takes no other call."""
EXIT_S, POLL_S = 10.0, 0.01
"""Seconds that a worker may take to exit before it is killed, and between two looks at it."""
_CHILDREN = threading.Lock()
"""Held to start a process, and to ask for an exit code. Starting one asks for those of
all that have ended; of two threads that ask for the same one at once, the second gets None."""


class WorkerPool(SegmentExecutor):
    """A `concurrent.futures` executor of spawned processes that survives dead workers.

    A worker that dies fails only its own call, with `WorkerDiedError`, and a new process takes the
    next call.
    """

    def __init__(
        self, n_workers: int, initializer: Callable[..., None], initargs: tuple[Any, ...]
    ) -> None:
        """Create the pool.

        Args:
            n_workers: number of processes, which start at `start` or at the first call.
            initializer: called in each process when it starts.
            initargs: its arguments.
        """
        self._calls: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        first: _Call = (initializer, initargs, {})
        self._workers = [_Worker(first, self._calls, self._workers_run) for _ in range(n_workers)]
        self._is_shut_down = False

    def start(self) -> None:
        """Start every worker now instead of at the first call; does not wait."""
        for worker in self._workers:
            worker.start()

    def check(self) -> None:
        """Wait until one of the workers that `start` started is running.

        Raises:
            MMSearchError: none of them can start; the terminal shows their own error message.
        """
        died = None
        starts = [worker.started for worker in self._workers if worker.is_asked_for]
        for started in concurrent.futures.as_completed(starts):
            try:
                started.result()
            except WorkerDiedError as error:
                died = error
                if error.signal is None:
                    break
            else:
                return
        if died is not None:
            how = (
                "cannot start; their error message is above"
                if died.signal is None
                else f"were killed by signal {died.signal} while starting, {MAX_STARTS} times; is "
                "there enough memory?"
            )
            raise MMSearchError(f"the worker processes {how}") from died

    def n_slots(self) -> int:
        """Return the number of processes."""
        return len(self._workers)

    def _workers_run(self) -> bool:
        return any(worker.is_running for worker in self._workers)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` in the next worker that is free."""
        if self._is_shut_down:
            raise RuntimeError("cannot submit a call after shutdown")
        future: Future[T] = Future()
        self._calls.put((future, (fn, args, kwargs)))
        self.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (the base class's)
        """Stop the workers after the submitted calls; with `cancel_futures`, after those begun."""
        self._is_shut_down = True
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while submitted := self._calls.get_nowait():
                    submitted[0].cancel()
        for _ in self._workers:
            self._calls.put(None)
        if wait:
            for worker in self._workers:
                worker.join()


class _Worker:
    """A process, the pipe to it, and the thread that waits for its answers.

    Each end of the pipe is open in one process only, so that if either process dies, even in the
    middle of a message, the other gets an error instead of waiting.
    """

    def __init__(
        self,
        first: _Call,
        calls: queue.SimpleQueue[_Submitted | None],
        others_run: Callable[[], bool],
    ) -> None:
        self.started: Future[None] = Future()
        """Done when the process runs, or cannot be started."""
        self._first = first
        self._calls = calls
        self._others_run = others_run
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether `start` was called."""
        return self._thread is not None

    @property
    def is_running(self) -> bool:
        """Whether the process has started and not died."""
        return self._pipe is not None

    def start(self) -> None:
        """Start the process unless that was done; does not wait."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._serve, name="worker", daemon=True)
        # The child inherits the mask; otherwise a Ctrl-C while it starts would kill it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_GROUP)
        try:
            # It would otherwise start with the first child, and unblock the signals there.
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_GROUP)
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def join(self) -> None:
        """Wait until it has stopped."""
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        for _ in range(MAX_STARTS):
            died = self._start_process()
            if died is None or died.signal is None:
                break
        self.started.set_exception(died) if died else self.started.set_result(None)
        while (submitted := self._calls.get()) is not None:
            died = None if self.is_running else self._start_process()
            if died is None:
                self._answer(*submitted)
                continue
            # Not the call's fault, and others may take it; without any, it would be tried for ever.
            error = CallLostError("its worker cannot start") if self._others_run() else died
            time.sleep(RESTART_S)
            if submitted[0].set_running_or_notify_cancel():
                submitted[0].set_exception(error)
        self._bury()

    def _start_process(self) -> WorkerDiedError | None:
        """Start the process, and wait until it runs; return an error if it died."""
        began: Future[None] = Future()
        self._answer(began, (_nothing, (), {}))
        died = began.exception()
        return died if isinstance(died, WorkerDiedError) else None

    def _answer(self, future: Future[Any], call: _Call) -> None:
        """Make a call, unless it was cancelled."""
        if not future.set_running_or_notify_cancel():
            return
        try:
            value, raised_at = self._ask(call)
        except (EOFError, OSError) as error:
            died = WorkerDiedError(self._bury())
            died.__cause__ = error
            future.set_exception(died)
        except Exception as error:  # noqa: BLE001 (the call or its result cannot be pickled)
            self._bury()
            future.set_exception(error)
        else:
            if raised_at is None:
                future.set_result(value)
            else:
                value.add_note(f"in a worker process:\n{raised_at}")
                future.set_exception(value)

    def _ask(self, call: _Call) -> _Answer:
        """Send a call to the process, starting one if necessary, and return its answer."""
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            with theirs, _CHILDREN:
                process.start()
            self._process = process
            # Not as an argument of the process, because start() waits until it has read those.
            self._pipe.send(self._first)
        self._pipe.send(call)
        answer: _Answer = self._pipe.recv()
        return answer

    def _bury(self) -> int | None:
        """Close the pipe, at which the process exits, and wait for it.

        Returns:
            Its exit code; None if there was no process, or it did not exit by itself.
        """
        if self._pipe is not None:
            self._pipe.close()
        exitcode = None
        if self._process is not None:
            exitcode = _exit_code(self._process)
        self._pipe = self._process = None
        return exitcode


def _exit_code(process: SpawnProcess) -> int | None:
    """Wait for a process to exit; kill it after `EXIT_S`, and return None."""
    deadline = time.monotonic() + EXIT_S
    # Not by its sentinel, which a process that it has started may hold open.
    while time.monotonic() < deadline:
        with _CHILDREN:
            if process.exitcode is not None:
                return process.exitcode
        time.sleep(POLL_S)
    process.kill()
    with _CHILDREN:
        process.join()
    return None


def _work(pipe: Connection) -> None:
    """Run calls until the pipe is closed; the first one, the initializer, has no answer."""
    fn, args, kwargs = pipe.recv()
    fn(*args, **kwargs)
    while True:
        try:
            fn, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer: _Answer = (fn(*args, **kwargs), None)
        except Exception as error:  # noqa: BLE001 (raised again in the caller)
            # Separately, since not every exception class pickles its notes.
            answer = (error, "".join(traceback.format_exception(error)))
        try:
            pipe.send(answer)
        except OSError:  # the coordinator is gone
            return
        except Exception as error:  # noqa: BLE001 (pickle raises any class)
            pipe.send((RuntimeError(f"a worker's answer cannot be sent: {error}"), ""))


def _nothing() -> None:
    """Do nothing; the first call of a worker."""
