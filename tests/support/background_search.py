"""A search that runs while a test disturbs it."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mmsearch.tracking.journal.journal import Journal
from tests.support.assertions import n_segments
from tests.support.forked_cli import Done, Warm

PATIENCE_S = 120.0
"""How long a test waits before it fails."""


class Search:
    """A `mmsearch run` in the background, begun at once."""

    def __init__(
        self, warm: Warm, folder: Path, *words: object, patch: str = "", **env: str
    ) -> None:
        """Run it in `folder`, the only one that `warm` runs meanwhile; `words` name its study."""
        self.journal = Journal(folder / "runs" / str(words[words.index("--study") + 1]))
        pool = ThreadPoolExecutor(1)
        self._future: Future[Done] = pool.submit(
            warm, "run", *words, folder=folder, patch=patch, code=None, **env
        )
        pool.shutdown(wait=False)

    @property
    def pid(self) -> int:
        """Its process, once it has begun."""
        found = re.match(r"pid (\d+) on ", (self.journal.folder / "lock").read_text())
        assert found is not None
        return int(found[1])

    @property
    def n_segments(self) -> int:
        """The number of segments in its journal."""
        return n_segments(self.journal.folder)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def wait(self, n_more: int = 1) -> None:
        """Wait until it has so many more segments."""
        goal, deadline = self.n_segments + n_more, time.monotonic() + PATIENCE_S
        while self.n_segments < goal:
            assert not self._future.done(), self._future.result()
            assert time.monotonic() < deadline, f"it did not get to {goal} segments"
            time.sleep(0.02)

    def interrupt(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop it meanwhile, so that it cannot end before the disturbance."""
        self.interrupt(signal.SIGSTOP)
        try:
            yield
        finally:
            self.interrupt(signal.SIGCONT)

    def end(self) -> Done:
        """Wait for its end."""
        return self._future.result(PATIENCE_S)
