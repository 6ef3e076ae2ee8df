"""A worker of a Dask cluster: the functions that run there, and how its calls are waited for."""

from __future__ import annotations

import asyncio
import traceback
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsearch.search.execution.executor import CallLostError, WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import BrokenExecutor

    from distributed import Client

    from mmsearch.data.split import Words


# The next functions run on the workers. They return each error as a value, because Dask logs the
# arguments of a call that raises, and `hand_over`'s arguments are the corpus.


class Sealed:
    """Words that are printed in no log."""

    def __init__(self, words: Words) -> None:
        self.words = words

    def __repr__(self) -> str:
        return "words"


_words: dict[str, Words] = {}
"""Words that this worker was handed, by fingerprint."""


def hand_over(fingerprint: str, sealed: Sealed) -> tuple[str, str]:
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


def run_call(
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


@dataclass(slots=True, eq=False)
class Worker:
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
        await first(answer, self.gone)
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


async def first(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    """Wait until either is done."""
    await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)


def _forget(answer: asyncio.Future[Any]) -> None:
    """Read the error of a call that was given up, or asyncio would report it."""
    if not answer.cancelled():
        answer.exception()
