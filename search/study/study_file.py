"""A study's file, `study.json`: its words, settings and databases."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmsearch.data.corpus import Vocabulary
from mmsearch.errors import InputError
from mmsearch.model.cost import COSTS, CostTable, check_costs
from mmsearch.search.study.settings import Settings
from mmsearch.search.study.urls import absolute
from mmsearch.secrets import without_password
from mmsearch.tracking.journal.files import JournalError, damaged
from mmsearch.tracking.ledger.record import FINGERPRINT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.tracking.journal.journal import Journal

_ID = re.compile(r"[\w-]{1,64}")
FORMAT = 1
"""Format number of `study.json`; a file with another one is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFile:
    """The contents of `study.json`."""

    id: str
    """Random id, which the study also has in Optuna and MLflow."""
    corpus: str | None
    """Absolute path of the word list; None for the built-in names."""
    corpus_fingerprint: str
    n_words: Mapping[str, int]
    """Number of words in `train`, `dev` and `test`."""
    split_fingerprint: str
    """Fingerprint of the test words."""
    vocabulary: str
    """All characters, in the order of their ids."""
    n_trials: int
    """The latest `--trials`."""
    settings: Settings
    storage: str | None
    """URL of the Optuna storage, with `***` for a password; None for the workspace's own."""
    tracking_uri: str | None
    """MLflow tracking URI, with `***` for a password; None for the workspace's own."""
    versions: Mapping[str, str]
    """Versions of the packages that the study was started with."""
    costs: CostTable = field(default_factory=lambda: COSTS)
    """What a training step costs in virtual time, by the table that the study was started with."""

    @classmethod
    def read(cls, journal: Journal) -> StudyFile | None:
        """Read a study's file; None before it has begun.

        Raises:
            JournalError: the file is damaged or of another version.
        """
        values = journal.read_study()
        if values is None:
            return None
        path = journal.folder / "study.json"
        if "format" not in values:
            raise damaged(path, "it has no format number")
        if values.pop("format") != FORMAT:
            raise JournalError(
                f"{str(path)!r} has a format that this version of mmsearch does not know; use the "
                "version that wrote it"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise JournalError(
                f"{str(path)!r} has {unknown[0]!r}, which this version of mmsearch does not know; "
                "use the version that wrote it"
            )
        try:
            settings = Settings.from_json(values.pop("settings"))
            file = cls(**values, settings=settings)
            file._check()
        except (InputError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path, error) from error
        return file

    @classmethod
    def require(cls, journal: Journal) -> StudyFile:
        """Read the file of a study that has begun.

        Raises:
            JournalError: the file is missing, damaged or of another version.
        """
        file = cls.read(journal)
        if file is None:
            raise JournalError(f"{str(journal.folder / 'study.json')!r} is missing")
        return file

    def _check(self) -> None:
        """Check types and names, since the workspace may come from somebody else.

        Raises:
            TypeError: a value has the wrong type.
            InputError: the characters are not a vocabulary, or a name could be a path.
        """
        texts = (self.id, self.corpus_fingerprint, self.split_fingerprint, self.vocabulary)
        maybe = (self.corpus, self.storage, self.tracking_uri)
        counts = (*(self.n_words[part] for part in ("train", "dev", "test")), self.n_trials)
        given = (text for text in maybe if text is not None)
        if not all(isinstance(text, str) for text in (*texts, *given)):
            raise TypeError("a name, URL or fingerprint is not text")
        if not all(type(count) is int and count >= 0 for count in counts):
            raise TypeError("a number of words or trials is not a whole number")
        if not all(isinstance(version, str) for version in self.versions.values()):
            raise TypeError("a version is not text")
        if Vocabulary(characters=tuple(self.vocabulary)).boundary != self.settings.boundary:
            raise InputError("its vocabulary does not begin with the boundary")
        check_costs(self.costs)
        # They are used in paths and in SQL.
        if not _ID.fullmatch(self.id) or not FINGERPRINT.fullmatch(self.split_fingerprint):
            raise InputError("its id or its split_fingerprint is malformed")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values that `read` reads."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"format": FORMAT, **values, "settings": self.settings.to_json()}


def keep_places(journal: Journal, **places: str) -> None:
    """Store the URLs of databases that have answered with a study, without their passwords.

    Args:
        journal: the study's journal.
        places: `storage` and `tracking_uri`, or one of them.
    """
    file = StudyFile.require(journal)
    kept: dict[str, Any] = {
        name: without_password(absolute(url) or url) for name, url in places.items()
    }
    if any(getattr(file, name) != url for name, url in kept.items()):
        journal.write_study(dataclasses.replace(file, **kept).to_json())


def unsaved_options(journal: Journal, storage: str | None, tracking_uri: str | None) -> str:
    """Return the options for given databases that are not stored with a study.

    Args:
        journal: the study's journal.
        storage: URL of the Optuna storage if given.
        tracking_uri: MLflow's tracking URI if given.
    """
    stored, options = StudyFile.require(journal), list[str]()
    if (url := absolute(storage)) and without_password(url) != stored.storage:
        options += ["--storage", without_password(url)]
    in_environment = absolute(os.environ.get("MLFLOW_TRACKING_URI"))
    uri = absolute(tracking_uri)
    if uri and uri != in_environment and without_password(uri) != stored.tracking_uri:
        options += ["--tracking-uri", without_password(uri)]
    return "".join(f" {shlex.quote(option)}" for option in options)
