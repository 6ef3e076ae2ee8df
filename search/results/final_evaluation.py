"""The one look: the chosen model on the test split, claimed before a test word is read.

In this order: the claim into Optuna's storage, which decides, into the user's own ledger and into
MLflow; the test words; the result into the same three; the model into MLflow's registry. Killed
at any point, the same model may finish, and no other may begin.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import socket
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
import torch

from mmsearch.data.split import Claim
from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.model import checkpoint
from mmsearch.model.baselines import bigram_losses, uniform_losses
from mmsearch.model.ngram import choose_ngram, ngram_losses
from mmsearch.model.scoring import bootstrap_interval, word_losses
from mmsearch.search.optimizer.optuna_view import REFILLED, STUDY_ID
from mmsearch.search.optimizer.storage import open_storage, telling_errors
from mmsearch.search.results.claims import OptunaLooks, merge
from mmsearch.search.results.final_note import used_up
from mmsearch.search.results.publish import (
    mlflow_at,
    open_tracker,
    show_look,
    show_looks,
    summarise,
)
from mmsearch.search.results.selection import Choice, choose
from mmsearch.search.study.urls import ledger_folder
from mmsearch.search.study.workspace import options_of, own
from mmsearch.tracking.ledger.mlflow_runs import MLflowLedger
from mmsearch.tracking.ledger.record import Look
from mmsearch.tracking.ledger.user_file import UserLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mmsearch.search.study.session import Session
    from mmsearch.tracking.mlflow.tracker import StudyTracker

MAX_REASON = 500
"""Characters of a reason to look again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalTest:
    """What came of asking for the final test."""

    look: Look
    """With its result."""
    is_recorded: bool
    """Whether the result was there already, and the test split stayed sealed."""
    looks: Sequence[Look]
    """All looks at this split so far, this one among them."""


def final_test(
    session: Session,
    number: int | None,
    again: str | None,
    say: Callable[[str], None],
    *,
    is_forced: bool = False,
) -> FinalTest:
    """Evaluate a study's model on the test split, once; asked again, give what is recorded.

    Args:
        session: the study.
        number: of the trial; None for the chosen model.
        again: why another look is taken at a split that is spent; None to take none.
        say: told, in a line, what a person should know.
        is_forced: whether a model is tested that does not beat bigram counts on dev.

    Raises:
        InputError: there is no such trial, or the reason is unfit.
        RefusedError: the split is spent on another model, the study is in use or has no
            settled choice, the trial is not complete, its weights are not the recorded ones, or
            it does not beat bigram counts on dev.
        MMSearchError: a ledger cannot be read or written.
    """
    again = _checked(again)
    torch.set_num_threads(1)  # as in a worker: with more, torch's first tanh is off by up to 1e-4
    local = UserLedger(ledger_folder())
    with local.locked(session.split.fingerprint), own(session.journal):
        choice = choose(session.journal, number)
        if choice.unsettled and number is None:
            raise RefusedError(f"the model is not chosen yet: {choice.unsettled}")
        if not choice.record.is_complete:
            raise RefusedError(
                f"{choice.record.name} is {choice.record.state}, and no look is spent on what was "
                "not trained to its end; name a complete trial, see: mmsearch trials"
            )
        weights = _weights(choice)
        with telling_errors(session.storage):
            with session.workspace.locked("optuna"):
                storage = open_storage(session.storage)
            try:
                _check_known(storage, session)
                central = OptunaLooks(storage)
                examination = _Examination(session, choice, weights, central, local, say, is_forced)
                return examination.run(again)
            finally:
                storage.engine.dispose()


def _check_known(storage: optuna.storages.BaseStorage, session: Session) -> None:
    """Refuse a storage that has never seen the study: its ledger knows nothing of earlier looks.

    Raises:
        RefusedError: it has not.
    """
    name = session.journal.name
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        attrs = study.user_attrs
        # One that was made anew knows of no look before `mmsearch sync` has brought them.
        if attrs.get(STUDY_ID) == session.file.id and not attrs.get(REFILLED, False):
            return
    raise RefusedError(
        f"the Optuna storage does not hold study {name!r}, or was made anew, so it cannot tell "
        "whether the test split is used up; fill it in with: mmsearch sync"
        f"{options_of(session.journal)}"
    )


@dataclass(frozen=True, slots=True)
class _Examination:
    """One `mmsearch final-test`, with its split's ledger to itself."""

    session: Session
    choice: Choice
    weights: bytes
    central: OptunaLooks
    local: UserLedger
    say: Callable[[str], None]
    is_forced: bool

    def run(self, again: str | None) -> FinalTest:
        tracker, away = self._open_mlflow()
        looks = self._read(tracker)
        look, is_recorded = self._settle(looks, again)
        if is_recorded:
            self._remember(looks)
            if tracker is None:
                self.say(f"MLflow was not asked: {away}")
            else:
                self._show(tracker, looks, is_fresh=False)
            return FinalTest(look=look, is_recorded=True, looks=looks)
        if tracker is None:
            raise MMSearchError(
                "the test split is opened only when every ledger can be asked; the same line again "
                f"once MLflow is back: {away}"
            )
        if look not in looks:
            look = self._claim(look)
        self._remember([*looks, look])
        with mlflow_at(tracker.uri):
            show_look(tracker, look, self.session.file)
        # Two Optuna storages that share MLflow alone cannot decide between their claims. Each is
        # written before it is read again, so that of two at least one sees the other, and yields.
        if rivals := _rivals(look, self._read(tracker)):
            raise RefusedError(used_up(rivals))
        look = dataclasses.replace(look, result=self._look(look))
        looks = [*(other for other in looks if other.id != look.id), look]
        self._remember([look])
        self._show(tracker, looks, is_fresh=True)
        return FinalTest(look=look, is_recorded=False, looks=looks)

    def _open_mlflow(self) -> tuple[StudyTracker | None, MMSearchError | None]:
        """Open MLflow; None and why, where it is away."""
        session = self.session
        try:
            return open_tracker(
                session.workspace, session.journal, session.given_tracking_uri
            ), None
        except MMSearchError as error:
            return None, error

    def _read(self, tracker: StudyTracker | None) -> Sequence[Look]:
        split = self.session.split.fingerprint
        stores = [self.central.read(split), self.local.read(split)]
        if tracker is not None:
            with mlflow_at(tracker.uri):
                stores.append(MLflowLedger(tracker).read(split))
        return merge(stores)

    def _settle(self, looks: Sequence[Look], again: str | None) -> tuple[Look, bool]:
        """Settle which look this is, and whether its result is recorded.

        Raises:
            RefusedError: the split is spent on another model, or this one is not worth a look.
            InputError: there is nothing to look at again.
        """
        sha256 = checkpoint.sha256(self.weights)
        mine = [look for look in looks if look.model_sha256 == sha256]
        for look in mine:
            if look.result is None and not _rivals(look, looks):
                self.say(f"{look} was claimed for this model and not finished; it is now")
                return look, False
        seen = [look for look in mine if look.result is not None]
        if seen and again is None:
            return seen[-1], True
        if looks and again is None:
            raise RefusedError(used_up(looks))
        if not looks and again is not None:
            raise InputError("the test split has not been looked at yet; leave --again out")
        if not self.is_forced and not self._beats_bigram():
            raise RefusedError(self._unworthy_words())
        fresh = Look(
            id=uuid.uuid4().hex,
            number=max((look.number for look in looks), default=0) + 1,
            split=self.session.split.fingerprint,
            model_sha256=sha256,
            model=self.choice.record.name,
            study=self.session.journal.name,
            study_id=self.session.file.id,
            reason=again or "",
            claimed_ms=_now_ms(),
            host=socket.gethostname(),
        )
        return fresh, False

    def _bigram_on_dev(self) -> float:
        """Score dev by bigram counts, in nats per character."""
        split, vocabulary = self.session.split, self.session.corpus.vocabulary
        return bigram_losses(split.train, split.dev, vocabulary).mean

    def _beats_bigram(self) -> bool:
        """Whether the model is better on dev than bigram counts."""
        dev_loss = self.choice.record.dev_loss
        return dev_loss is not None and dev_loss < self._bigram_on_dev()

    def _unworthy_words(self) -> str:
        """Return why the model is not worth the test split, and what to do."""
        record = self.choice.record
        return (
            f"{record.name} has dev loss {record.dev_loss:.4f}, and bigram counts have "
            f"{self._bigram_on_dev():.4f}: a model that does not beat them is not worth the one "
            "look at the test split. Search a new --study with fewer --steps or weight_decay in "
            "[space] where the words are few, or with more --steps; name another model with "
            "--trial; or test this one all the same with --anyway"
        )

    def _claim(self, look: Look) -> Look:
        """Claim a look, or take up one that another machine has just claimed for this model.

        Raises:
            RefusedError: another process was first, for another model.
        """
        accepted = self.central.claim(look)
        if accepted.model_sha256 != look.model_sha256:
            raise RefusedError(used_up([accepted]))
        return accepted

    def _remember(self, looks: Sequence[Look]) -> None:
        """Bring the two ledgers of record up to what is known."""
        for look in looks:
            self.central.write(look)
            self.local.write(look)

    def _look(self, look: Look) -> dict[str, Any]:
        """Open the test split and evaluate; JSON values."""
        session, record, winner = self.session, self.choice.record, self.choice.winner
        parameters = checkpoint.from_bytes(self.weights)
        vocabulary, train = session.corpus.vocabulary, session.split.train
        ngram = choose_ngram(train, session.split.dev, vocabulary)  # before a test word is read
        words = session.split.test.open(
            Claim(model_sha256=look.model_sha256, split_fingerprint=look.split, look=look.number)
        )
        losses = word_losses(parameters, words, vocabulary)
        counted = ngram_losses(train, words, vocabulary, order=ngram.order, strength=ngram.strength)
        low, high = bootstrap_interval(losses)
        return {
            "test_loss": losses.mean,
            "test_loss_low": low,
            "test_loss_high": high,
            "test_bits_per_char": losses.mean / math.log(2),
            "test_perplexity": math.exp(min(losses.mean, 700)),
            "dev_loss": record.dev_loss,
            "dev_loss_mean": winner.mean if winner else None,
            "dev_loss_sd": winner.sd if winner else None,
            "uniform_loss": uniform_losses(words, vocabulary).mean,
            "bigram_loss": bigram_losses(train, words, vocabulary).mean,
            "ngram_loss": counted.mean,
            "ngram_order": ngram.order,
            "ngram_strength": ngram.strength,
            "anyway": not self._beats_bigram(),
            "n_test_words": len(words),
            "n_test_characters": int(losses.n_targets.sum()),
            "n_test_words_in_train": session.split.n_test_in_train,
            "why": self.choice.why,
            "spec": record.spec.to_json(),
            "tested_ms": _now_ms(),
        }

    def _show(self, tracker: StudyTracker, looks: Sequence[Look], *, is_fresh: bool) -> None:
        """Bring MLflow up to the study's looks; the ledger has them, whatever happens here."""
        session = self.session
        try:
            with mlflow_at(tracker.uri):
                show_looks(tracker, session.journal, session.file, looks, is_fresh=is_fresh)
                tracker.show_study(summarise(session.journal, session.file, looks=looks))
        except MMSearchError as error:
            self.say(f"the result is recorded; the same line again shows it in MLflow, as {error}")


def _rivals(look: Look, looks: Sequence[Look]) -> list[Look]:
    """Find what another model has claimed under the number of this look."""
    return [
        other
        for other in looks
        if other.number == look.number and other.model_sha256 != look.model_sha256
    ]


def _weights(choice: Choice) -> bytes:
    """Read a model's weights.

    Raises:
        RefusedError: they are not the ones that the record names.
    """
    path = choice.journal.weights_path(choice.record.number)
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if checkpoint.sha256(content) == choice.record.curve[-1].weights_sha256:
            return content
    raise RefusedError(
        f"the weights of {choice.record.name}, {str(path)!r}, are not the recorded ones; put them "
        "back, or name another model with --trial"
    )


def _checked(again: str | None) -> str | None:
    """Check a reason to look again."""
    if again is None:
        return None
    reason = " ".join(again.split())
    if not reason or len(reason) > MAX_REASON or not reason.isprintable():
        raise InputError(
            f"--again takes the reason in 1 to {MAX_REASON} printable characters: it is kept for "
            "good, and printed beside every later result"
        )
    return reason


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
