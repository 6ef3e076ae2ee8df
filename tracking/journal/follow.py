"""A journal read while another process writes it: each time no more than what has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmsearch.tracking.journal import files

if TYPE_CHECKING:
    from pathlib import Path

    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord

_FILES = ("curve.jsonl", "outcome.json")


@dataclass(slots=True)
class Follower:
    """Gives the news of a study's trials; writes nothing."""

    journal: Journal
    _seen: dict[int, tuple[object, ...]] = field(init=False, default_factory=dict)
    """What the files of the trials that have not ended were when they were read."""
    _ended: set[int] = field(init=False, default_factory=set)
    _waiting: set[int] = field(init=False, default_factory=set)
    """Folders without a spec yet."""
    _folder: object = field(init=False, default=None)

    def news(self) -> list[TrialRecord]:
        """Read the trials that have begun, gone on or ended since the last call.

        Raises:
            JournalError: a file is damaged.
        """
        records = []
        for number in self._open():
            folder = self.journal.trial_folder(number)
            state = tuple(_state(folder / name) for name in _FILES)
            if self._seen.get(number) == state:
                continue
            record = self.journal.read(number)
            records.append(record)
            if record.outcome is None:
                self._seen[number] = state
            else:
                self._ended.add(number)
                self._seen.pop(number, None)
        return records

    def _open(self) -> list[int]:
        """Give the trials that had not ended when they were last read, the new ones among them."""
        folder = self.journal.trial_folder(0).parent
        state = _state(folder)
        if state != self._folder:
            self._folder = state
            names = (name for name in files.listed(folder) if name.isdecimal())
            self._waiting |= {int(name) for name in names} - self._ended - set(self._seen)
        begun = {number for number in self._waiting if self.journal.has_begun(number)}
        self._waiting -= begun
        return sorted(begun | set(self._seen))


def _state(path: Path) -> object:
    """Tell a file's versions apart; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    # A folder made in the same tick as the one before moves no time, but counts as a link.
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_nlink
