"""The final test: the chosen model on the test split, claimed before a test word is read.

The order is: the claim goes into Optuna's storage, which decides, then into the user's own ledger
and into MLflow; the test split is opened; the result goes into the same three; the model goes into
MLflow's registry. If the process is killed at any point, the same model may finish and no other
may begin.
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

from mmsearch.data.split import Claim
from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.model import checkpoint
from mmsearch.model.arithmetic import fix_arithmetic
from mmsearch.model.baselines import bigram_losses, uniform_losses
from mmsearch.model.ngram import choose_ngram, ngram_losses
from mmsearch.model.scoring import bootstrap_interval, word_losses
from mmsearch.search.optimizer.claims import OptunaLooks, optuna_looks
from mmsearch.search.results.final_note import used_up
from mmsearch.search.results.publish import mlflow_at, open_tracker, show_looks, sync_later
from mmsearch.search.results.selection import Choice, choose
from mmsearch.search.results.summary import summarise
from mmsearch.search.study.locks import own
from mmsearch.search.study.urls import ledger_folder
from mmsearch.search.study.workspace import options_of
from mmsearch.tracking.ledger.mlflow_runs import MLflowLedger
from mmsearch.tracking.ledger.record import Look, merged
from mmsearch.tracking.ledger.user_file import UserLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mmsearch.search.study.session import Session
    from mmsearch.tracking.mlflow.tracker import StudyTracker

MAX_REASON = 500
"""Characters of a reason to look again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalTest:
    """The outcome of `mmsearch final-test`."""

    look: Look
    """The look at the test split, with its result."""
    is_recorded: bool
    """Whether the result had been recorded before, so that the test split stayed sealed."""
    looks: Sequence[Look]
    """All looks at this split so far, this one included."""


def final_test(
    session: Session,
    number: int | None,
    again: str | None,
    say: Callable[[str], None],
    *,
    is_forced: bool = False,
) -> FinalTest:
    """Evaluate a study's model on the test split once; later calls return the recorded result.

    Args:
        session: the study.
        number: the trial's number; None for the chosen model.
        again: the reason for another look at a split that is used up; None to take none.
        say: called with each line that the user should read.
        is_forced: whether to test a model that does not beat bigram counts on dev.

    Raises:
        InputError: there is no such trial, or the reason cannot be used.
        RefusedError: the split is used up by another model, the study is in use, no model is
            chosen, the trial is not complete, its weights are not the recorded ones, or it does
            not beat bigram counts on dev.
        MMSearchError: a ledger cannot be read or written.
    """
    again = _checked(again)
    fix_arithmetic()
    journal = session.journal
    local = UserLedger(ledger_folder())
    with local.locked(session.split.fingerprint), own(journal):
        choice = choose(journal, number)
        if choice.unsettled and number is None:
            raise RefusedError(f"the model is not chosen yet: {choice.unsettled}")
        if not choice.record.is_complete:
            raise RefusedError(
                f"{choice.record.name} is {choice.record.state}, and only complete trials can be "
                f"tested; see: mmsearch trials{options_of(journal)}"
            )
        weights = _weights(choice)
        creating = session.workspace.locked("optuna")
        with optuna_looks(session.storage, _later(session), creating) as central:
            if not central.has_study(journal.name, session.file.id):
                raise RefusedError(
                    f"the Optuna storage lacks study {journal.name!r} or was created anew, so it "
                    "cannot tell whether the test split is used up; fill it with: mmsearch sync"
                    f"{options_of(journal)}"
                )
            test = _Test(session, choice, weights, central, local, say, is_forced)
            return test.run(again)


@dataclass(frozen=True, slots=True)
class _Test:
    """One `mmsearch final-test`; this process alone holds the split's ledger."""

    session: Session
    choice: Choice
    weights: bytes
    central: OptunaLooks
    local: UserLedger
    say: Callable[[str], None]
    is_forced: bool

    def run(self, again: str | None) -> FinalTest:
        tracker, why_away = self._open_mlflow()
        looks = self._read(tracker)
        look = self._find_or_make(looks, again)
        if look.result is not None:
            self._record(looks)
            if tracker is None:
                self.say(f"MLflow was not asked: {why_away}")
            else:
                self._show(tracker, looks, is_fresh=False)
            return FinalTest(look=look, is_recorded=True, looks=looks)
        if tracker is None:
            raise MMSearchError(
                "the test split is opened only if every ledger can be read; run the same command "
                f"again when MLflow is back: {why_away}"
            )
        if look not in looks:
            look = self._claim(look)
        self._record([*looks, look])
        with mlflow_at(tracker.uri, _later(self.session)):
            show_looks(tracker, self.session.journal, self.session.file, [look])
        # Two Optuna storages that share only MLflow cannot decide between their claims. Each
        # writes before it reads again, so that at least one of two sees the other and gives way.
        if rivals := _rivals(look, self._read(tracker)):
            raise used_up(rivals)
        look = dataclasses.replace(look, result=self._evaluate(look))
        looks = [*(other for other in looks if other.id != look.id), look]
        self._record([look])
        self._show(tracker, looks, is_fresh=True)
        return FinalTest(look=look, is_recorded=False, looks=looks)

    def _open_mlflow(self) -> tuple[StudyTracker | None, MMSearchError | None]:
        """Open MLflow; return None and the reason if it is away."""
        session = self.session
        uri = session.given_tracking_uri
        try:
            return open_tracker(session.workspace, session.journal, uri), None
        except MMSearchError as error:
            return None, error

    def _read(self, tracker: StudyTracker | None) -> Sequence[Look]:
        split = self.session.split.fingerprint
        stores = [self.central.read(split), self.local.read(split)]
        if tracker is not None:
            with mlflow_at(tracker.uri, _later(self.session)):
                stores.append(MLflowLedger(tracker).read(split))
        return merged(stores)

    def _find_or_make(self, looks: Sequence[Look], again: str | None) -> Look:
        """Return this model's look, recorded, claimed earlier, or new.

        Raises:
            RefusedError: the split is used up by another model, or this one is too bad to test.
            InputError: there is no earlier look, so none can be taken again.
        """
        sha256 = checkpoint.sha256(self.weights)
        mine = [look for look in looks if look.model_sha256 == sha256]
        for look in mine:
            if look.result is None and not _rivals(look, looks):
                self.say(f"{look} was claimed for this model and not finished; finishing it now")
                return look
        seen = [look for look in mine if look.result is not None]
        if seen and again is None:
            return seen[-1]
        if looks and again is None:
            raise used_up(looks)
        if not looks and again is not None:
            raise InputError("the test split has not been used yet; leave --again out")
        if not self.is_forced:
            self._check_beats_bigram()
        return Look(
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

    def _bigram_on_dev(self) -> float:
        """Return the dev loss of bigram counts, in nats per character."""
        split, vocabulary = self.session.split, self.session.corpus.vocabulary
        return bigram_losses(split.train, split.dev, vocabulary).mean

    def _check_beats_bigram(self) -> None:
        """Refuse a model that is not better on dev than bigram counts."""
        record, bigram = self.choice.record, self._bigram_on_dev()
        if record.dev_loss is None or record.dev_loss >= bigram:
            raise RefusedError(
                f"{record.name} has dev loss {record.dev_loss:.4f} and does not beat bigram counts "
                f"({bigram:.4f}), so it is not worth the only look at the test split; search a new "
                "--study with fewer --steps, or weight_decay in [space] if there are few words, or "
                "more --steps; name another model with --trial; or test this one with --anyway"
            )

    def _claim(self, look: Look) -> Look:
        """Claim a look, or take over one that another machine has just claimed for this model.

        Raises:
            RefusedError: another process was first, for another model.
        """
        accepted = self.central.claim(look)
        if accepted.model_sha256 != look.model_sha256:
            raise used_up([accepted])
        return accepted

    def _record(self, looks: Sequence[Look]) -> None:
        """Write looks to the Optuna storage and the user's ledger."""
        for look in looks:
            self.central.write(look)
            self.local.write(look)

    def _evaluate(self, look: Look) -> dict[str, Any]:
        """Open the test split and evaluate; return JSON values."""
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
            "anyway": record.dev_loss is None or record.dev_loss >= self._bigram_on_dev(),
            "n_test_words": len(words),
            "n_test_characters": int(losses.n_targets.sum()),
            "n_test_words_in_train": session.split.n_test_in_train,
            "why": self.choice.why,
            "spec": record.spec.to_json(),
            "tested_ms": _now_ms(),
        }

    def _show(self, tracker: StudyTracker, looks: Sequence[Look], *, is_fresh: bool) -> None:
        """Bring MLflow up to the study's looks; a failure only prints a line."""
        session = self.session
        try:
            with mlflow_at(tracker.uri, _later(self.session)):
                show_looks(tracker, session.journal, session.file, looks, is_fresh=is_fresh)
                tracker.show_study(summarise(session.journal, session.file, looks=looks))
        except MMSearchError as error:
            self.say(f"the result is recorded; run the command again to show it in MLflow: {error}")


def _later(session: Session) -> str:
    """Return what to do about results that a database lacks."""
    return sync_later(session.journal, session.given_storage, session.given_tracking_uri)


def _rivals(look: Look, looks: Sequence[Look]) -> list[Look]:
    """Return the looks that another model has claimed under the same number."""
    return [
        other
        for other in looks
        if other.number == look.number and other.model_sha256 != look.model_sha256
    ]


def _weights(choice: Choice) -> bytes:
    """Read a model's weights.

    Raises:
        RefusedError: their SHA-256 is not the recorded one.
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
            f"--again takes a reason of 1 to {MAX_REASON} printable characters: it is recorded "
            "permanently and shown beside every later result"
        )
    return reason


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
