"""Where segments run: processes of our own, each of which may die without the others."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import queue
import signal
import threading
import traceback
from concurrent.futures import BrokenExecutor, Executor, Future
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

T = TypeVar("T")
_Call: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]"

_Answer: TypeAlias = "tuple[Any, str | None]"
"""What a call returned and None; or the error that it raised, and where."""
_OF_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal, timeout or systemd sends to a whole group of processes."""
MAX_STARTS = 3
"""Times that workers are started where each of them is killed before it is there."""


class WorkerDiedError(BrokenExecutor):
    """A worker process died in the middle of a call."""

    def __init__(self, exitcode: int | None) -> None:
        """Say how.

        Args:
            exitcode: as of `multiprocessing`; None where it could not be started.
        """
        super().__init__("a worker process died in the middle of a call")
        self.signal = -exitcode if exitcode is not None and exitcode < 0 else None
        """That killed it; None where it ended by itself."""


class WorkerPool(Executor):
    """Spawned worker processes behind the interface of `concurrent.futures`.

    A worker that dies, wherever it stands, fails its own call with `BrokenExecutor`, and a new
    process takes the next one. `submit` is for one thread.
    """

    def __init__(
        self, n_workers: int, initializer: Callable[..., None], initargs: tuple[Any, ...]
    ) -> None:
        """Prepare `n_workers` processes, which start at their first call."""
        self._workers = [_Worker(initializer, initargs) for _ in range(n_workers)]
        self._started: list[Future[None]] = []
        self._is_shut_down = False

    def start(self) -> None:
        """Start every worker now, and not at its first call."""
        self._started = [self.submit(_nothing) for _ in self._workers]

    def check(self) -> None:
        """Wait until a worker has started, if any was asked to.

        Those that are killed in their start are started again.

        Raises:
            MMSearchError: none of them can start; where they were not killed, what they died of
                stands in the terminal.
        """
        died = self._first_start()
        for _ in range(MAX_STARTS - 1):
            if died is None or died.signal is None:
                break
            self.start()
            died = self._first_start()
        if died is not None:
            how = (
                "cannot start; what they said of it stands above"
                if died.signal is None
                else f"were killed in their start, {MAX_STARTS} times, by signal {died.signal}; is "
                "there enough memory?"
            )
            raise MMSearchError(f"the worker processes {how}") from died

    def _first_start(self) -> WorkerDiedError | None:
        """Wait for a worker that has started: None; else give what one of them died of."""
        died: list[WorkerDiedError] = []
        for future in concurrent.futures.as_completed(self._started):
            try:
                future.result()
            except WorkerDiedError as error:
                if error.signal is None:
                    return error
                died.append(error)
            else:
                return None
        return died[0] if died else None

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` in the worker that has the fewest calls before it."""
        if self._is_shut_down:
            raise RuntimeError("cannot submit a call after shutdown")
        return min(self._workers, key=lambda worker: worker.n_waiting()).submit(fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (the base class's)
        """End the workers after their calls."""
        self._is_shut_down = True
        for worker in self._workers:
            worker.end(cancel=cancel_futures)
        if wait:
            for worker in self._workers:
                worker.join()


class _Worker:
    """A process, the pipe to it, and the thread that waits for its answers.

    Each end of the pipe is open in one process alone: whichever of the two dies, in the middle of
    a message, too, the other one reads or writes no further but gets an error.
    """

    def __init__(self, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
        self._first: _Call = (initializer, initargs, {})
        self._calls: queue.SimpleQueue[tuple[Future[Any], _Call] | None] = queue.SimpleQueue()
        self._waiting: list[Future[Any]] = []
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._thread: threading.Thread | None = None

    def n_waiting(self) -> int:
        """Count the calls that are not done."""
        self._waiting = [future for future in self._waiting if not future.done()]
        return len(self._waiting)

    def submit(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[T]:
        """Call `fn` after the calls before it."""
        future: Future[T] = Future()
        self._waiting.append(future)
        self._calls.put((future, (fn, args, kwargs)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="worker", daemon=True)
            # A child starts with the mask it inherits: a Ctrl-C during its start would kill it.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_GROUP)
            try:
                # Started with the first child otherwise, and unblocks them for that one.
                resource_tracker.ensure_running()
                signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_GROUP)
                self._thread.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return future

    def end(self, *, cancel: bool) -> None:
        """End after the calls before it, or without those that have not begun."""
        if cancel:
            for future in self._waiting:
                future.cancel()
        self._calls.put(None)

    def join(self) -> None:
        """Wait for the end."""
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value, raised_at = self._ask(call)
            except (EOFError, OSError) as error:
                died = WorkerDiedError(self._bury())
                died.__cause__ = error
                future.set_exception(died)
            except Exception as error:  # noqa: BLE001 (the caller's: what it sent, or got, cannot be pickled)
                self._bury()
                future.set_exception(error)
            else:
                if raised_at is None:
                    future.set_result(value)
                else:
                    value.add_note(f"in a worker process:\n{raised_at}")
                    future.set_exception(value)
        self._bury()

    def _ask(self, call: _Call) -> _Answer:
        """Give a call to the process, a new one where there is none."""
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            with theirs:
                process.start()
            self._process = process
            # Not as an argument of the process: starting it would wait until it has read it all.
            self._pipe.send(self._first)
        self._pipe.send(call)
        answer: _Answer = self._pipe.recv()
        return answer

    def _bury(self) -> int | None:
        """Let go of the process: it ends when its pipe does, if it has not ended yet.

        Returns:
            Its exit code; None where there was no process.
        """
        if self._pipe is not None:
            self._pipe.close()
        exitcode = None
        if self._process is not None:
            self._process.join()
            exitcode = self._process.exitcode
        self._pipe = self._process = None
        return exitcode


def _work(pipe: Connection) -> None:
    """Do calls, the first of them without an answer, until the other end is closed."""
    fn, args, kwargs = pipe.recv()
    fn(*args, **kwargs)
    while True:
        try:
            fn, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer: _Answer = (fn(*args, **kwargs), None)
        except Exception as error:  # noqa: BLE001 (the caller's)
            # Apart from the error, since not every class of them pickles its notes.
            answer = (error, "".join(traceback.format_exception(error)))
        try:
            pipe.send(answer)
        except OSError:  # nobody is there to hear it
            return
        except Exception as error:  # noqa: BLE001 (pickle raises what it likes)
            pipe.send((RuntimeError(f"a worker's answer cannot be sent: {error}"), ""))


def _nothing() -> None:
    """Do what a started worker does."""
