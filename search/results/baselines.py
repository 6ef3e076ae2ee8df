"""Baselines of a study, computed during its first search and stored in its folder."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mmsearch.tracking.journal.baselines import Baselines
from mmsearch.tracking.journal.files import exists

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mmsearch.data.corpus import Vocabulary
    from mmsearch.search.study.session import Session
    from mmsearch.tracking.journal.records import TrialRecord


def count_baselines(train: Sequence[str], dev: Sequence[str], vocabulary: Vocabulary) -> Baselines:
    """Compute the dev losses of the baselines.

    Args:
        train: words to count n-grams in.
        dev: words to score, by which the n-gram's order and strength are chosen.
        vocabulary: the characters of both.
    """
    from mmsearch.model.baselines import bigram_losses, uniform_losses  # noqa: PLC0415 (see start)
    from mmsearch.model.ngram import choose_ngram  # noqa: PLC0415 (likewise)

    ngram = choose_ngram(train, dev, vocabulary)
    return Baselines(
        uniform=uniform_losses(dev, vocabulary).mean,
        bigram=bigram_losses(train, dev, vocabulary).mean,
        ngram=ngram.losses.mean,
        ngram_order=ngram.order,
        ngram_strength=ngram.strength,
    )


class BaselineCount:
    """Computes a study's baselines in a thread; an observer of the search.

    It starts after the first segment, when all workers are busy, so that nothing waits for it. If
    the process is killed, the next one computes them. No error here stops a search.
    """

    def __init__(self, session: Session, say: Callable[[str], None]) -> None:
        """Create the observer.

        Args:
            session: the study.
            say: called with a line if the baselines cannot be computed.
        """
        self._session = session
        self._say = say
        self._thread: threading.Thread | None = None

    def show(self, record: TrialRecord) -> None:
        """Start after the first segment; does not block."""
        if record.curve:
            self.start()

    def start(self) -> None:
        """Start the thread unless it was started."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._count, name="baselines", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Wait until the baselines are stored, which takes about a second from the start."""
        self.start()
        assert self._thread is not None  # noqa: S101 (for the type checker)
        self._thread.join()

    def _count(self) -> None:
        session = self._session
        try:
            # A damaged file is not replaced; commands that read it will report it.
            if not exists(session.journal.baselines_path):
                split, vocabulary = session.split, session.corpus.vocabulary
                found = count_baselines(split.train, split.dev, vocabulary)
                session.journal.write_baselines(found)
        except Exception as error:  # noqa: BLE001 (reported; the next run tries again)
            self._say(f"the baselines of this study could not be computed: {error}")
