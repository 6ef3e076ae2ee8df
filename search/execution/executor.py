"""What a search asks of the executor that trains its segments, and how calls fail there."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import BrokenExecutor, Executor
from typing import TYPE_CHECKING

from mmsearch.counts import counted
from mmsearch.errors import MMSearchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmsearch.data.split import Words


class WorkerDiedError(BrokenExecutor):
    """A worker process died in the middle of a call, perhaps because of it."""

    def __init__(self, exitcode: int | None = None) -> None:
        """Create the error.

        Args:
            exitcode: the process's exit code as in `multiprocessing`; None if it is not known.
        """
        super().__init__("a worker process died in the middle of a call")
        self.signal = -exitcode if exitcode is not None and exitcode < 0 else None
        """Number of the signal that killed it; None if it exited by itself."""


class CallLostError(BrokenExecutor):
    """A call was lost for a reason that lies outside it, and can be submitted again."""


class ExecutorLostError(MMSearchError):
    """No further call can be made."""


class SegmentExecutor(Executor):
    """An executor that trains segments; its workers may die."""

    @abstractmethod
    def start(self) -> None:
        """Start the workers, or connect to a cluster, before the first call.

        Raises:
            InputError: there is no such cluster.
        """

    @abstractmethod
    def check(self) -> None:
        """Wait until workers that `start` started are running.

        Raises:
            MMSearchError: none of them can run.
        """

    @abstractmethod
    def n_slots(self) -> int:
        """Return how many calls can run at once now; 0 while there is no worker.

        Raises:
            ExecutorLostError: there never will be one again.
        """


def make_executor(
    workers: int | str, words: Words, say: Callable[[str], None], n_lanes: int | None = None
) -> SegmentExecutor:
    """Create the executor, whose workers are not started yet.

    Args:
        workers: number of processes on this machine, or a Dask cluster.
        words: the words to train and score on.
        say: called with each line that the user should read.
        n_lanes: the most calls that will be made at once; None for no limit.

    Raises:
        InputError: the cluster is not named as `--dask` asks.
    """
    if isinstance(workers, str):
        from mmsearch.search.execution.dask_pool import DaskPool  # noqa: PLC0415 (an extra)

        return DaskPool(workers, words, say, n_lanes)
    from mmsearch.search.execution import worker  # noqa: PLC0415 (imports wait)
    from mmsearch.search.execution.worker_pool import WorkerPool  # noqa: PLC0415

    if n_lanes is not None and workers > n_lanes:
        say(idle_line(workers, n_lanes))
        workers = n_lanes
    return WorkerPool(workers, worker.start, (words,))


def idle_line(n_workers: int, n_lanes: int) -> str:
    """Say that a study cannot use all workers, and the next step."""
    return (
        f"only {n_lanes} of {n_workers} workers are used, since the study trains "
        f"{counted(n_lanes, 'trial')} at once; a new study can have more: lanes = {n_workers} "
        "under [search]"
    )
