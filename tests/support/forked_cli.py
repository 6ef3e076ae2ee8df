"""Runs commands in processes forked from one that has imported everything.

Each command and each of its workers has a process of its own, which can be killed, and saves the
seconds of imports. Run as a script, this file is the process that forks: it reads a line of JSON
and writes one.
"""

import atexit
import contextlib
import faulthandler
import gc
import importlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    *("alembic.command", "matplotlib.backends.backend_agg", "matplotlib.figure"),
    *("mlflow.pyfunc", "mlflow.store.model_registry.sqlalchemy_workspace_store"),
    *("mlflow.store.tracking.sqlalchemy_workspace_store", "optuna.storages._rdb.models"),
    *("PIL.WebPImagePlugin", "safetensors.numpy", "sqlalchemy.dialects.sqlite"),
    *("mmsearch.search.cli.app", "mmsearch.search.execution.runner"),
    *("mmsearch.search.execution.search_job", "mmsearch.search.results.final_evaluation"),
    *("mmsearch.search.results.word_samples", "mmsearch.tracking.figures.build"),
    *("mmsearch.tracking.mlflow.local_database", "mmsearch.tracking.mlflow.registry"),
)
"""What commands import."""
PATIENCE_S = 400.0
"""How long commands may take before they are aborted, which prints where each thread stands."""
IMPORTED_BY_WORKERS = ["mmsearch.model.training", "mmsearch.model.sampling"]


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    returncode: int
    """As in `subprocess`: negative for a signal."""
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run."""

    words: Sequence[object]
    folder: Path
    """Working folder and home."""
    patch: str = ""
    """Python that is run first."""
    env: tuple[tuple[str, str], ...] = ()


class Warm:
    """Runs commands, one after another or at once."""

    def __init__(self) -> None:
        self._process = _started()

    def __call__(
        self, *words: object, folder: Path, patch: str = "", code: int | None = None, **env: str
    ) -> Done:
        """Run one command to its end, which must be with this exit code if one is given."""
        (done,) = self.together([Command(words, folder, patch, tuple(env.items()))])
        assert code in {None, done.returncode}, (words, done)
        return done

    def together(self, commands: Sequence[Command]) -> list[Done]:
        """Run commands at the same time, until all have ended."""
        from tests.support.commands import environment  # noqa: PLC0415 (not where this is a script)

        with tempfile.TemporaryDirectory() as scratch:
            jobs = [
                {
                    "words": [str(word) for word in command.words],
                    "cwd": str(command.folder),
                    "env": environment(command.folder, dict(command.env)),
                    "patch": command.patch,
                    "out": str(Path(scratch) / f"{number}.out"),
                    "err": str(Path(scratch) / f"{number}.err"),
                }
                for number, command in enumerate(commands)
            ]
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(json.dumps(jobs) + "\n")
                self._process.stdin.flush()
                codes = json.loads(self._process.stdout.readline())
            except BaseException:
                # A test that hangs was ended, and its answer would be taken for the next one's.
                self._process.kill()
                self.close()
                self._process = _started()
                raise
            return [
                Done(code, Path(str(job["out"])).read_text(), Path(str(job["err"])).read_text())
                for code, job in zip(codes, jobs, strict=True)
            ]

    def close(self) -> None:
        """End the process that forks."""
        with self._process, contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()


def _started() -> subprocess.Popen[str]:
    """Start the process that forks."""
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )


@contextlib.contextmanager
def warm() -> Iterator[Warm]:
    """Run commands in forked processes."""
    with contextlib.closing(Warm()) as command:
        yield command


def _become(job: dict[str, Any]) -> NoReturn:
    """Run a command in this process, and exit as it does."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup, which ignores it
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for path, number in ((os.devnull, 0), (job["out"], 1), (job["err"], 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    faulthandler.enable()
    sys.argv = ["mmsearch", *job["words"]]
    # Workers come from the server that this process's parent has started, instead of being spawned.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    context = multiprocessing.get_context("forkserver")
    multiprocessing.get_context = lambda _method: context  # type: ignore[assignment]
    code: object = 1
    try:
        exec(job["patch"], {})  # noqa: S102 (our own)
        from mmsearch.search.cli.app import main  # noqa: PLC0415 (in the parent already)

        main()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 (shown, as Python itself would)
        import traceback  # noqa: PLC0415 (seldom)

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _copy_new_databases() -> None:
    """Let commands copy MLflow's new database, which takes it a second and more to make."""
    utils: Any = sys.modules["mlflow.store.db.utils"]
    make, folder = utils._initialize_tables, tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    template = Path(folder) / "mlflow.db"
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{template}")
    logging.disable(logging.INFO)
    make(engine)
    logging.disable(logging.NOTSET)
    engine.dispose()

    def copy(engine: Any) -> None:
        path = Path(engine.url.database or "")
        if engine.url.drivername == "sqlite" and not (path.exists() and path.stat().st_size):
            shutil.copyfile(template, path)
        else:
            make(engine)

    utils._initialize_tables = copy


def _end_of(pid: int, deadline: float) -> int:
    """Wait for the end of a command, which is aborted at the deadline."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGABRT)
    os.kill(pid, signal.SIGCONT)
    status = os.waitpid(pid, 0)[1]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it has started
    return os.waitstatus_to_exitcode(status)


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    # Commands would list the versions of MLflow's tables, and all packages to register a model.
    sys.modules["mmsearch.tracking.mlflow.local_database"]._installed_revisions()
    sys.modules["mlflow.utils.requirements_utils"]._init_modules_to_packages_map()
    multiprocessing.set_forkserver_preload(IMPORTED_BY_WORKERS)
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    _copy_new_databases()
    gc.collect()
    gc.freeze()  # or each command would look through all that is loaded, and so copy it
    for line in sys.stdin:
        children = []
        for job in json.loads(line):
            pid = os.fork()
            if not pid:
                _become(job)
            children.append(pid)
        deadline = time.monotonic() + PATIENCE_S
        codes = [_end_of(pid, deadline) for pid in children]
        print(json.dumps(codes), flush=True)  # noqa: T201 (the answer)


if __name__ == "__main__":
    _serve()
