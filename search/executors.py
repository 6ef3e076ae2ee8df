"""Where segments run: processes of our own, each of which may die without the others."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class WorkerPool(Executor):
    """Spawned worker processes behind the interface of `concurrent.futures`.

    `ProcessPoolExecutor` breaks as a whole when one process dies. Here each worker is an executor
    of its own: a dead one fails its own call with `BrokenExecutor` and is replaced at the next
    `submit`. For use from one thread.
    """

    def __init__(
        self, n_workers: int, initializer: Callable[..., None], initargs: tuple[Any, ...]
    ) -> None:
        """Prepare `n_workers` processes, which start at their first call."""
        self._initializer = initializer
        self._initargs = initargs
        self._workers = [self._new() for _ in range(n_workers)]
        self._started: list[Future[None]] = []
        self._calls: list[list[Future[Any]]] = [[] for _ in range(n_workers)]

    def start(self) -> None:
        """Start every worker now, and not at its first call."""
        self._started = [self.submit(_nothing) for _ in self._workers]

    def check(self) -> None:
        """Wait until a worker has started, if any was asked to.

        Raises:
            MMSearchError: it died of it; what it died of stands in the terminal.
        """
        for future in concurrent.futures.as_completed(self._started):
            try:
                future.result()
            except concurrent.futures.BrokenExecutor as error:
                raise MMSearchError(
                    "the worker processes cannot start; what they said of it stands above"
                ) from error
            return

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call `fn` in the worker that has the fewest calls before it."""
        self._calls = [[call for call in calls if not call.done()] for calls in self._calls]
        chosen = min(range(len(self._calls)), key=lambda n: len(self._calls[n]))
        # A child starts with the mask it inherits: a Ctrl-C during its start would kill it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            try:
                future = self._workers[chosen].submit(fn, *args, **kwargs)
            except BrokenProcessPool:
                self._workers[chosen].shutdown(wait=False)
                self._workers[chosen] = self._new()
                future = self._workers[chosen].submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._calls[chosen].append(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (the base class's)
        """End the workers after their calls."""
        for worker in self._workers:
            worker.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=self._initializer,
            initargs=self._initargs,
        )


def _nothing() -> None:
    """Do what a started worker does."""
