"""A journal that grows is read as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.tracking.journal.follow import Follower
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.journal.records import Outcome, SegmentRecord, TrialState
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from pathlib import Path

LINE = SegmentRecord(
    segment=1,
    step=100,
    train=((100, 2.5, 0.1),),
    dev_loss=2.4,
    wall_s=1.0,
    ended_ms=1,
    weights_sha256="",
)


def test_each_change_is_told_once(tmp_path: Path) -> None:
    """What has not changed is not read again, and what has ended never."""
    journal = Journal(tmp_path)
    follower = Follower(journal)

    assert follower.news() == []
    journal.start(3, make_spec(), {"started_ms": 0, "n_parameters": 1})
    assert [(r.number, len(r.curve)) for r in follower.news()] == [(3, 0)]
    assert follower.news() == []
    journal.append(3, LINE, b"")
    journal.start(4, make_spec(), {"started_ms": 0, "n_parameters": 1})
    assert [(r.number, len(r.curve)) for r in follower.news()] == [(3, 1), (4, 0)]
    journal.finish(3, Outcome(state=TrialState.PRUNED, ended_ms=2))
    assert [(r.number, r.state) for r in follower.news()] == [(3, "PRUNED")]
    journal.trial_folder(3).joinpath("curve.jsonl").write_text("damaged later\n")
    assert follower.news() == []


def test_torn_line_and_folder_without_a_spec_are_waited_for(tmp_path: Path) -> None:
    """A writer may be in the middle of either."""
    journal = Journal(tmp_path)
    follower = Follower(journal)
    folder = journal.trial_folder(0)
    folder.mkdir(parents=True)

    assert follower.news() == []
    journal.start(0, make_spec(), {"started_ms": 0, "n_parameters": 1})
    assert [r.number for r in follower.news()] == [0]
    (folder / "curve.jsonl").write_text('{"segment": 1, "st')
    assert [len(r.curve) for r in follower.news()] == [0]
    (folder / "curve.jsonl").unlink()
    journal.append(0, LINE, b"")
    assert [len(r.curve) for r in follower.news()] == [1]
