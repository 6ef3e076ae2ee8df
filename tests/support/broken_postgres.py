"""A wire to PostgreSQL that breaks at a commit: before it has arrived, or before its answer has."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 65536


@dataclass(slots=True)
class Wire:
    """Passes on what a client and a server say, and breaks at every nth commit."""

    server: Path
    loses: Literal["request", "answer"]
    """What does not arrive of the commit that it breaks at."""
    every: int | None = None
    """Which commit; None for none."""
    n_cuts: int = 0
    _n_commits: int = field(init=False, default=0)

    def join(self, client: socket.socket) -> None:
        """Serve one connection to its end."""
        is_deaf = threading.Event()
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self.server))
            answers = threading.Thread(target=_copy, args=(server, client, is_deaf), daemon=True)
            answers.start()
            while said := client.recv(_CHUNK):
                if b"COMMIT" in said and self._is_cut():
                    if self.loses == "answer":
                        is_deaf.set()
                        server.sendall(said)
                        server.shutdown(socket.SHUT_WR)
                        answers.join()  # the server has committed, and ended
                    break
                server.sendall(said)
            # Not closed alone: the other thread, which reads it, would keep it open.
            server.shutdown(socket.SHUT_RDWR)

    def _is_cut(self) -> bool:
        self._n_commits += 1
        is_cut = self.every is not None and self._n_commits % self.every == 0
        self.n_cuts += is_cut
        return is_cut


@contextlib.contextmanager
def cut(wire: Wire, folder: Path) -> Iterator[str]:
    """Lay a wire; gives the URL of what it leads to."""
    place = folder / wire.server.name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        threading.Thread(target=_serve, args=(listener, wire), daemon=True).start()
        yield f"postgresql://postgres:@/postgres?host={folder}"
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, wire: Wire) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=wire.join, args=(client,), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket, is_deaf: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while said := source.recv(_CHUNK):
            if not is_deaf.is_set():
                target.sendall(said)
    if not is_deaf.is_set():
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
