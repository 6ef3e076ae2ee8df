"""The objects behind `import mmsearch`: training a network by hand, and reading a study.

They are those of the command line: a network trained here from the spec of a trial equals the
trial's bit for bit, and errors are those of `mmsearch.errors`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmsearch.data.corpus import Vocabulary
from mmsearch.errors import InputError
from mmsearch.model import checkpoint, sampling
from mmsearch.model.arithmetic import fix_arithmetic
from mmsearch.model.mlp import forward
from mmsearch.model.scoring import word_losses
from mmsearch.model.training import TrialData, train_segment
from mmsearch.search.results.export import write_model
from mmsearch.search.results.selection import choose
from mmsearch.search.study.config_file import TABLES
from mmsearch.search.study.settings import settle
from mmsearch.search.study.space import HYPERPARAMETERS
from mmsearch.search.study.study_file import StudyFile
from mmsearch.search.study.workspace import Workspace
from mmsearch.tracking.journal.records import ranked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd

    from mmsearch.data.split import Split
    from mmsearch.model.mlp import Parameters
    from mmsearch.model.spec import TrialSpec
    from mmsearch.tracking.journal.journal import Journal
    from mmsearch.tracking.journal.records import TrialRecord


def make_spec(*, seed: int = 0, recipe: str = "default", **values: Any) -> TrialSpec:
    """Return a spec to train a network from.

    Args:
        seed: seed of the initial parameters and the minibatches.
        recipe: `default`, or `article` for makemore's own training.
        values: `embedding_dim`, `hidden_width`, `block_size` and `learning_rate`, which the default
            recipe needs, and any key of `[training]` or `[space]` in a config file.

    Raises:
        InputError: a value is missing, unknown or out of range.

    >>> spec = mmsearch.make_spec(
    ...     recipe="article", embedding_dim=10, hidden_width=200, block_size=3, learning_rate=0.1
    ... )
    >>> spec.n_parameters(vocab_size=27), spec.batch_size
    (11897, 32)
    """
    known = (*HYPERPARAMETERS, *TABLES["training"])
    if unknown := [name for name in values if name not in known]:
        raise InputError(f"a spec has no {unknown[0]!r}; known are {', '.join(known)}")
    point = {name: value for name, value in values.items() if name in HYPERPARAMETERS}
    keys = TABLES["training"]
    settings = {keys[name]: value for name, value in values.items() if name in keys}
    settled = settle({"recipe": recipe, "space": point, **settings})
    if lacking := [n for n, d in settled.space.dimensions.items() if not d.is_fixed]:
        raise InputError(f"a spec needs a value of {', '.join(lacking)}")
    return settled.trial_spec(settled.space.to_json(), seed)


@contextlib.contextmanager
def _arithmetic_of_a_worker() -> Iterator[None]:
    """Compute as the processes of the command line do; undone afterwards."""
    n_threads = torch.get_num_threads()
    fix_arithmetic()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        torch.set_flush_denormal(False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of a network while it was trained."""

    step: int
    """Number of optimizer steps done."""
    dev_loss: float
    """Loss on dev, in nats per character."""
    train_loss: float
    """Loss on as many words of train, in nats per character."""


@dataclass(frozen=True, slots=True)
class Model:
    """A trained network with its characters.

    Calling it with the beginning of a word returns the probability of each next character.
    """

    spec: TrialSpec
    """The spec that it was trained from."""
    parameters: Parameters
    """C, W1, b1, W2 and b2."""
    vocabulary: Vocabulary
    """The characters that it knows, by id; id 0 is ".", the start and end of a word."""
    evaluations: tuple[Evaluation, ...] = ()
    """Evaluations made during its training, in order of their steps."""

    @_arithmetic_of_a_worker()
    def __call__(self, prefix: str = "") -> dict[str, float]:
        """Return the probability of each next character after the beginning of a word.

        Raises:
            InputError: a character is not in the vocabulary.
        """
        block_size = self.spec.block_size
        ids = ([0] * block_size + self.vocabulary.encode(prefix))[-block_size:]
        with torch.inference_mode():
            p_V = torch.softmax(forward(self.parameters, torch.tensor([ids]))[0].double(), 0)
        return dict(zip(self.vocabulary.characters, p_V.tolist(), strict=True))

    @_arithmetic_of_a_worker()
    def loss(self, words: Sequence[str]) -> float:
        """Return the mean loss of words, their ends included, in nats per character.

        Raises:
            InputError: there are no words, or a character is not in the vocabulary.
        """
        return word_losses(self.parameters, words, self.vocabulary).mean

    @_arithmetic_of_a_worker()
    def sample(
        self,
        n_words: int = 20,
        *,
        seed: int = sampling.ARTICLE_SEED,
        prefix: str = "",
        temperature: float = 1.0,
    ) -> list[str]:
        """Return new words, drawn as in makemore.

        Args:
            n_words: number of words.
            seed: seed of the draws.
            prefix: start of every word.
            temperature: divides the logits; below 1, likely characters become likelier.

        Raises:
            InputError: a character of the prefix is not in the vocabulary, or a number is out of
                range.
        """
        drawn = sampling.sample_words(
            self.parameters,
            self.vocabulary,
            n_words,
            seed=seed,
            prefix=prefix,
            temperature=temperature,
        )
        return [each.word for each in drawn]

    def export(self, folder: str | os.PathLike[str]) -> None:
        """Write `weights.safetensors`, `spec.json` and `vocabulary.json`, as `mmsearch export`.

        Args:
            folder: a new or empty folder.

        Raises:
            InputError: the folder is not empty, or is a file.
            MMSearchError: it cannot be written.
        """
        weights = checkpoint.to_bytes(self.parameters)
        write_model(Path(folder), self.spec, weights, self.vocabulary.characters)


def train(
    spec: TrialSpec,
    split: Split,
    vocabulary: Vocabulary,
    on_evaluation: Callable[[Evaluation], object] | None = None,
) -> Model:
    """Train a network as a trial is trained, in this process and with one torch thread.

    Args:
        spec: what to train, as of `make_spec` or of a trial.
        split: the words; the test part stays sealed.
        vocabulary: the corpus's characters.
        on_evaluation: called with each evaluation on dev, as it is made; an exception that it
            raises ends the training.

    Returns:
        The network of the evaluation that a trial would be scored by: the best one with `patience`,
        else the last.

    Raises:
        DivergedError: the loss or a weight is not finite.

    >>> corpus = mmsearch.read_corpus(mmsearch.BUILTIN_CORPUS)
    >>> split = mmsearch.split_corpus(corpus)
    >>> sizes = {"embedding_dim": 8, "hidden_width": 32, "block_size": 3}
    >>> budget = {"steps": 400, "segments": 2}
    >>> spec = mmsearch.make_spec(recipe="article", learning_rate=0.1, **sizes, **budget)
    >>> def show(evaluation):
    ...     print(f"{evaluation.step:3}  {evaluation.dev_loss:.1f}")
    >>> model = mmsearch.train(spec, split, corpus.vocabulary, show)
    200  4.1
    400  3.9
    >>> model.loss(["emma", "olivia"]) < model.loss(["zzyzx"])
    True
    """
    data = TrialData(split.train, split.dev, vocabulary, spec.block_size, spec.targets)
    state, losses, evaluations = None, list[float](), list[Evaluation]()
    with _arithmetic_of_a_worker():
        while not spec.has_ended(losses):
            segment = train_segment(spec, losses, state, data)
            state = segment.state
            losses.append(segment.dev_loss)
            step = spec.segment_end(len(losses))
            evaluations.append(Evaluation(step, segment.dev_loss, segment.train_loss))
            if on_evaluation is not None:
                on_evaluation(evaluations[-1])
    assert state is not None  # noqa: S101 (a spec has at least one segment)
    return Model(spec, state.parameters, vocabulary, tuple(evaluations))


@dataclass(frozen=True, slots=True)
class Study:
    """A study in a workspace, to be read; nothing is written."""

    journal: Journal
    """The journal that stores its trials."""
    file: StudyFile
    """Fingerprints of its words, its settings, and the addresses of its databases."""
    trials: tuple[TrialRecord, ...]
    """All trials that had begun when the study was loaded, in the order of their numbers."""

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.journal.name

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the lowest dev loss; None before there is one."""
        return next(iter(ranked(self.trials)), None)

    def frame(self) -> pd.DataFrame:
        """Return a table with a row for each trial: its state, losses, seconds and spec."""
        import pandas as pd  # noqa: PLC0415 (slow)

        rows = [
            {
                "trial": trial.number,
                "state": str(trial.state),
                "dev_loss": trial.dev_loss,
                "train_loss": trial.scored.latest_train_loss if trial.scored else None,
                "step": trial.curve[-1].step if trial.curve else 0,
                "wall_s": trial.wall_s,
                **trial.spec.to_json(),
            }
            for trial in self.trials
        ]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    def model(self, trial: int | None = None) -> Model:
        """Return the study's chosen model, or that of a trial.

        Args:
            trial: number of the trial; None for what `mmsearch confirm` chose, else the best.

        Raises:
            InputError: there is no such trial, or it has no weights.
            RefusedError: no trial is complete.
            JournalError: a file is damaged.
        """
        choice = choose(self.journal, trial)
        weights = choice.journal.read_weights(choice.record)
        evaluations = (
            Evaluation(line.step, line.dev_loss, line.latest_train_loss)
            for line in choice.record.curve
        )
        return Model(
            choice.record.spec,
            checkpoint.from_bytes(weights),
            Vocabulary(characters=tuple(self.file.vocabulary)),
            tuple(evaluations),
        )


def load_study(workspace: str | os.PathLike[str] = "runs", name: str | None = None) -> Study:
    """Read a study of a workspace.

    Args:
        workspace: the folder that holds all studies.
        name: the study's name; None for the only one.

    Raises:
        InputError: there is no such study, or more than one.
        JournalError: a file is damaged.
    """
    journal = Workspace.at(Path(workspace)).existing(name)
    return Study(journal, StudyFile.require(journal), tuple(journal.records()))
