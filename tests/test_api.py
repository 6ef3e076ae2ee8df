"""What `import mmsearch` offers to scripts and notebooks."""

import doctest
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mmsearch
from docs.gen.api_reference import page
from mmsearch import api
from mmsearch.data.corpus import Vocabulary
from mmsearch.data.split import Split
from mmsearch.model import checkpoint
from mmsearch.search.study.session import Session
from mmsearch.search.study.workspace import Workspace

SMALL: dict[str, Any] = {
    "embedding_dim": 4, "hidden_width": 16, "block_size": 3, "learning_rate": 5e-3,
    "weight_decay": 0.1, "context_noise": 0.1, "steps": 30, "segments": 3, "patience": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def words(small_corpus: Path) -> tuple[Split, Vocabulary]:
    """Return the split and the characters of four hundred names."""
    corpus = mmsearch.read_corpus(small_corpus)
    return mmsearch.split_corpus(corpus), corpus.vocabulary


def test_names_are_there_and_nothing_is_imported_before_they_are_used() -> None:
    assert all(getattr(mmsearch, name) is not None for name in dir(mmsearch))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mmsearch.no_such_name
    code = "import mmsearch, sys; print({'torch', 'numpy', 'mlflow', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_page_and_its_examples_are_up_to_date() -> None:
    """After a change: python docs/gen/api_reference.py > docs/api.md."""
    assert page() == (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8")
    result = doctest.testmod(api, extraglobs={"mmsearch": mmsearch})
    assert result.attempted > 0
    assert not result.failed


def test_training_equals_that_of_a_trial_bit_for_bit(searched: Path) -> None:
    study = mmsearch.load_study(searched / "runs")
    session = Session.reopen(Workspace.at(searched / "runs"), study.name)
    assert study.best is not None
    n_threads = torch.get_num_threads()
    model = mmsearch.train(study.best.spec, session.split, session.corpus.vocabulary)
    weights = checkpoint.to_bytes(model.parameters)
    assert hashlib.sha256(weights).hexdigest() == study.best.curve[-1].weights_sha256
    assert [e.dev_loss for e in model.evaluations] == [s.dev_loss for s in study.best.curve]
    assert torch.get_num_threads() == n_threads


def test_model_predicts_scores_samples_and_is_exported(
    words: tuple[Split, Vocabulary], tmp_path: Path
) -> None:
    seen: list[mmsearch.Evaluation] = []
    model = mmsearch.train(mmsearch.make_spec(**SMALL), *words, seen.append)
    assert model.evaluations == tuple(seen)
    assert seen[-1].step == SMALL["steps"]
    assert model.loss(words[0].dev) == pytest.approx(seen[-1].dev_loss, abs=1e-5)
    following = model("a")
    assert following.keys() == set(words[1].characters)
    assert sum(following.values()) == pytest.approx(1)
    assert model("nna") == model("anna")  # three characters of context
    samples = model.sample(4, prefix="jo", seed=1)
    assert len(samples) == 4
    assert all(word.startswith("jo") for word in samples)
    model.export(tmp_path / "model")
    weights = (tmp_path / "model/weights.safetensors").read_bytes()
    assert torch.equal(checkpoint.from_bytes(weights).C, model.parameters.C)
    assert json.loads((tmp_path / "model/spec.json").read_text()) == model.spec.to_json()


def test_callback_can_end_a_training(words: tuple[Split, Vocabulary]) -> None:
    def stop(_: mmsearch.Evaluation) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmsearch.train(mmsearch.make_spec(**SMALL), *words, stop)


def test_study_is_a_table_and_a_model(searched: Path, tmp_path: Path) -> None:
    study = mmsearch.load_study(searched / "runs")
    frame = study.frame()
    assert frame.index.tolist() == [trial.number for trial in study.trials]
    assert study.best is not None
    assert frame["dev_loss"].idxmin() == study.best.number
    assert frame.loc[study.best.number, "embedding_dim"] == study.best.spec.embedding_dim
    assert study.model().spec == study.best.spec
    assert study.model(1).spec == study.trials[1].spec
    empty = Workspace.at(tmp_path / "runs").journal("empty")
    empty.create()
    assert mmsearch.Study(empty, study.file, ()).frame().empty


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: mmsearch.read_corpus("missing.txt"), "missing.txt"),
        (lambda: mmsearch.load_study("missing"), "missing"),
        (mmsearch.make_spec, "embedding_dim"),
        (lambda: mmsearch.make_spec(**SMALL, hidden_with=3), "hidden_with"),
        (lambda: mmsearch.make_spec(**{**SMALL, "hidden_width": 0}), "hidden_width"),
        (lambda: mmsearch.make_spec(**{**SMALL, "optimizer": "lion"}), "optimizer"),
        (lambda: mmsearch.make_spec(recipe="lecture"), "recipe"),
    ],
)
def test_bad_input_is_named_and_never_ends_the_process(
    call: Callable[[], object], named: str
) -> None:
    with pytest.raises(mmsearch.InputError, match=named):
        call()
