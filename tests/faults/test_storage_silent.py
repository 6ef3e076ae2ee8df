"""A database server that takes connections and never answers holds no command up for ever."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from mmsearch.errors import MMSearchError
from mmsearch.search.optimizer import storage
from mmsearch.search.optimizer.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def silent() -> Iterator[int]:
    """Take connections, and say nothing; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def test_silent_server_counts_as_away(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout, the driver waits as long as the connection lives."""
    monkeypatch.setattr(storage, "_ANSWER_S", 2)

    with pytest.raises(MMSearchError, match="cannot be opened"):
        open_storage(f"postgresql+psycopg://me@127.0.0.1:{silent}/db")
