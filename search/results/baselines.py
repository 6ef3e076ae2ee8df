"""A study's baselines counted beside its first search, and kept in its folder."""

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
    """Count the baselines in train, and score dev by them.

    Args:
        train: the words to count in.
        dev: the words that the n-gram's settings are chosen by.
        vocabulary: knows every character of both.
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
    """Counts a study's baselines in a thread, once there is time for it; an observer of a search.

    It begins when the first segment has come back: by then every worker is busy, and nothing that
    a person waits for is delayed. A process that is killed before the file is written leaves the
    counting to the next one. No failure of it stops a search.
    """

    def __init__(self, session: Session, say: Callable[[str], None]) -> None:
        """Prepare it.

        Args:
            session: the study.
            say: called with a line where the baselines cannot be counted.
        """
        self._session = session
        self._say = say
        self._thread: threading.Thread | None = None

    def show(self, record: TrialRecord) -> None:
        """Begin to count, once a segment is done; does not block."""
        if record.curve:
            self.start()

    def start(self) -> None:
        """Begin to count, unless that has been done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._count, name="baselines", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Wait until the baselines are counted, a second or so where that has not begun."""
        self.start()
        assert self._thread is not None  # noqa: S101 (for the type checker)
        self._thread.join()

    def _count(self) -> None:
        session = self._session
        try:
            # A damaged file is not replaced: whoever reads it names it.
            if not exists(session.journal.baselines_path):
                split, vocabulary = session.split, session.corpus.vocabulary
                found = count_baselines(split.train, split.dev, vocabulary)
                session.journal.write_baselines(found)
        except Exception as error:  # noqa: BLE001 (said, and the next run counts again)
            self._say(f"the baselines of this study could not be counted: {error}")
