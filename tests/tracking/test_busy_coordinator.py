"""Uploads wait while the coordinator has much to do."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mmsearch.tracking.mlflow.tracker import StudyTracker
from mmsearch.tracking.uploader import IdleTime, Uploader
from tests.support.tracked_study import NewStore, Study
from tests.support.waiting import wait_until


@pytest.mark.parametrize("end", ["the coordinator waits", "the search has ended"])
def test_uploads_wait_for_a_busy_coordinator(
    new_store: NewStore, study: Study, tmp_path: Path, end: str
) -> None:
    """One trial is sent, and the next one when nobody has to wait for that."""
    is_free, when_sent = threading.Event(), []

    class Slow(StudyTracker):
        def show_trial(self, *args: Any, **kwargs: Any) -> None:
            when_sent.append(is_free.is_set())
            time.sleep(0.5)
            super().show_trial(*args, **kwargs)

    for number in range(2):
        study.complete(number)
    idle = IdleTime()
    view = Slow(uri=new_store.copy(tmp_path), facts=study.facts, artifacts=tmp_path / "artifacts")
    uploader = Uploader(view, study.journal, print, idle=idle)
    uploader.start()
    wait_until(lambda: when_sent)
    time.sleep(2)  # in which a thread that does not wait would have gone on
    is_free.set()
    if end == "the coordinator waits":
        idle.seconds = 1e9
        wait_until(lambda: len(when_sent) > 1)
    assert uploader.close(study.summary())
    assert when_sent == [False, True]
