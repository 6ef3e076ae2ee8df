"""A real Dask cluster on this machine, whose processes can be killed, stopped and replaced.

Its processes are forked from one that has imported everything. Run as a script, this file is that
process: it reads a line of JSON a process, and answers with its pid.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMPORTED = (
    *("distributed.cli.dask_scheduler", "distributed.cli.dask_worker"),
    *("mmsearch.model.training", "mmsearch.model.sampling", "mmsearch.search.execution.worker"),
    "mmsearch.search.study.provenance",
)


@dataclass(slots=True)
class DaskCluster:
    """A scheduler and its workers."""

    folder: Path
    """Holds a log of each process."""
    address: str
    """Of the scheduler."""
    _forking: subprocess.Popen[str]
    settings: dict[str, str] = field(default_factory=dict)
    """Environment variables of all processes."""
    scheduler: int = 0
    """Its pid; 0 while there is none."""
    workers: list[int] = field(default_factory=list)
    """Pids of the workers that were started last."""
    _pids: list[int] = field(default_factory=list)

    def start_scheduler(self) -> None:
        """Start the scheduler, always at the same address."""
        words = ["--host", self.address, "--no-dashboard"]
        self.scheduler = self._fork("dask_scheduler", words)

    def start_worker(
        self, *words: str, patch: str = "", n_threads: int = 1, nanny: bool = False
    ) -> int:
        """Start a worker; returns its pid.

        Args:
            words: further arguments.
            patch: Python that its process runs first.
            n_threads: number of calls that it takes at once.
            nanny: whether it is a process of a nanny, as by default, which takes longer to start.
        """
        given = [self.address, "--nthreads", str(n_threads), "--no-dashboard", *words]
        given += [] if nanny else ["--no-nanny"]
        self.workers.append(self._fork("dask_worker", given, patch))
        return self.workers[-1]

    def kill_workers(self) -> None:
        """Kill all workers with SIGKILL."""
        for pid in self.workers:
            os.kill(pid, signal.SIGKILL)
        self.workers.clear()

    def kill_scheduler(self) -> None:
        """Kill the scheduler with SIGKILL; its workers end by themselves."""
        os.kill(self.scheduler, signal.SIGKILL)
        self.scheduler = 0
        self.workers.clear()

    def logs(self) -> str:
        """Return what all processes printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        """Kill every process that is left."""
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _fork(self, module: str, words: Sequence[str], patch: str = "") -> int:
        job = {
            "module": f"distributed.cli.{module}",
            "words": words,
            "patch": patch,
            "log": str(self.folder / f"{len(self._pids)}.log"),
            "env": self.settings,
            "cwd": str(self.folder),
        }
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        self._forking.stdin.write(json.dumps(job) + "\n")
        self._forking.stdin.flush()
        self._pids.append(int(self._forking.stdout.readline()))
        return self._pids[-1]


def pid_after(seconds: float) -> int:
    """Keep a worker busy, and tell which one it was."""
    time.sleep(seconds)
    return os.getpid()


@contextlib.contextmanager
def forking() -> Iterator[subprocess.Popen[str]]:
    """Start the process that forks."""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        # Scheduler and workers import what they are asked to call.
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _become(job: dict[str, Any]) -> NoReturn:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for path, number in ((os.devnull, 0), (None, 1), (None, 2)):
        os.dup2(log if path is None else os.open(path, os.O_RDONLY), number)
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    code: object = 1
    try:
        import dask  # noqa: PLC0415 (in the parent already)

        dask.config.refresh()
        exec(job["patch"], {})  # noqa: S102 (our own)
        importlib.import_module(job["module"]).main(job["words"])
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leave no zombies
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        print(pid, flush=True)  # noqa: T201 (the answer)


if __name__ == "__main__":
    _serve()
