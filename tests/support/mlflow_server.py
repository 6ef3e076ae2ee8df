"""A real MLflow server that can be killed, paused, broken and repaired."""

import os
import signal
import socket
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from mmsearch.tracking.mlflow.server import Server, serve


def free_port() -> int:
    """Find a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Service:
    """An MLflow server that may be restarted, always on the same port and store."""

    folder: Path
    database: Path
    port: int
    stack: ExitStack = field(default_factory=ExitStack)
    server: Server | None = None

    @property
    def uri(self) -> str:
        """The tracking URI."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.server is None:
            self.server = self.stack.enter_context(
                serve(
                    f"sqlite:///{self.database}",
                    self.folder / "artifacts",
                    log_folder=self.folder,
                    port=self.port,
                )
            )

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self.server is not None:
            self.signal(signal.SIGKILL)
            self.server = None
            self.stack.close()

    def signal(self, number: int) -> None:
        """Send a signal to each of its processes."""
        assert self.server is not None
        os.killpg(self.server.process.pid, number)

    def break_store(self) -> None:
        """Make it answer each call with an error 500."""
        self._rename("experiments", "hidden")

    def mend_store(self) -> None:
        """Undo `break_store`."""
        self._rename("hidden", "experiments")

    def _rename(self, before: str, after: str) -> None:
        with closing(sqlite3.connect(self.database, timeout=60)) as connection:
            connection.execute(
                "PRAGMA legacy_alter_table = ON"
            )  # so that other tables keep the name
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")
