"""The served model: its scores and draws against torch, and what it refuses."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import torch

from mmsearch.data.contexts import build_contexts
from mmsearch.data.corpus import Vocabulary
from mmsearch.model.checkpoint import to_bytes
from mmsearch.model.mlp import Parameters, forward, loss
from mmsearch.model.sampling import ARTICLE_SEED, MAX_LENGTH
from mmsearch.tracking.mlflow.registry import import_pyfunc_model
from tests.support.specs import make_parameters

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

LETTERS = Vocabulary.of(["abcdefghijklmnopqrstuvwxyz"])
GOTHIC = "\U00010330"
"""A letter beyond the first 65,536."""
WORDS = ("emma", "a", "zzz", "christopherson")


def write_model(folder: Path, parameters: Parameters, vocabulary: Vocabulary = LETTERS) -> Path:
    """Write the folder that `mmsearch export` writes, of a block size that the sizes tell."""
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(to_bytes(parameters))
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    (folder / "spec.json").write_text(json.dumps({"block_size": block_size, "seed": 7}))
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary.characters))
    return folder


def torch_nats(parameters: Parameters, word: str, vocabulary: Vocabulary = LETTERS) -> float:
    """Score one word as training does."""
    block_size = parameters.W1.shape[0] // parameters.C.shape[1]
    contexts = build_contexts([word], vocabulary, block_size)
    return float(loss(parameters, contexts.inputs, contexts.targets))


def with_bias(parameters: Parameters, bias_V: torch.Tensor) -> Parameters:
    """Exchange the bias of the output."""
    return Parameters(parameters.C, parameters.W1, parameters.b1, parameters.W2, bias_V)


@pytest.fixture(scope="session")
def served() -> ModuleType:
    """Import the script as a module of ours."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # decided as MLflow is imported
    return import_pyfunc_model()


@pytest.fixture
def parameters() -> Parameters:
    """Draw a small model."""
    return make_parameters(LETTERS.size, 4, 16, 3)


@pytest.fixture
def model(served: ModuleType, parameters: Parameters, tmp_path: Path) -> Any:
    """Load that model as MLflow does."""
    return load(served, tmp_path / "small", parameters)


def load(
    served: ModuleType, folder: Path, parameters: Parameters, vocabulary: Vocabulary = LETTERS
) -> Any:
    """Load a model as MLflow does."""
    model = served.CharacterModel()
    artifacts = {"model": str(write_model(folder / "model", parameters, vocabulary))}
    model.load_context(served.PythonModelContext(artifacts=artifacts, model_config=None))
    return model


def ask(model: Any, rows: list[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
    """Ask for some rows, as MLflow does: a column that no row has is missing."""
    answer = model.predict(None, pd.DataFrame(rows), params)
    found: list[dict[str, Any]] = answer.to_dict("records")
    return found


def words(model: Any, prefix: str = "", n: int = 20, **params: Any) -> list[str]:
    """Sample some words."""
    return [row["continuation"] for row in ask(model, [{"prefix": prefix}] * n, **params)]


@pytest.mark.parametrize("sizes", [(4, 16, 3), (1, 1, 1), (10, 100, 8), (2, 5, 16)])
def test_score_is_the_loss_that_training_reports(
    served: ModuleType, tmp_path: Path, sizes: tuple[int, int, int]
) -> None:
    parameters = make_parameters(LETTERS.size, *sizes)
    model = load(served, tmp_path, parameters)

    answers = ask(model, [{"word": word} for word in WORDS])

    for word, answer in zip(WORDS, answers, strict=True):
        assert answer["nats_per_char"] == pytest.approx(torch_nats(parameters, word), abs=1e-5)
        assert answer["continuation"] is None
    # Certain and impossible characters have scores that JSON can hold.
    bias_V = torch.zeros(LETTERS.size)
    bias_V[1] = 5000
    sure = with_bias(parameters, bias_V)
    (answer,) = ask(load(served, tmp_path / "sure", sure), [{"word": "za"}])
    assert answer["nats_per_char"] == pytest.approx(torch_nats(sure, "za"), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_models_distribution(
    model: Any, parameters: Parameters, temperature: float
) -> None:
    n = 5000
    drawn = Counter(words(model, n=n, temperature=temperature, max_length=1))

    logits_V = forward(parameters, torch.zeros(1, 3, dtype=torch.int64))[0]
    chances = torch.softmax(logits_V / temperature, 0).tolist()
    for character, p in zip(("", *LETTERS.characters[1:]), chances, strict=True):
        assert abs(drawn[character] - n * p) < 5 * math.sqrt(n * p) + 1, character


def test_context_slides_through_a_word(model: Any, parameters: Parameters) -> None:
    expected = [1, 2]
    while len(expected) < 12:
        context = ([0] * 3 + expected)[-3:]
        expected.append(int(forward(parameters, torch.tensor([context]))[0].argmax()))

    # The smallest number that a float can hold: nearly every scaled logit is minus infinity.
    for temperature in (1e-3, 5e-324):
        (word,) = words(model, "ab", n=1, temperature=temperature, max_length=12)
        assert word == "".join(LETTERS.characters[i] for i in expected).partition(".")[0]


def test_words_follow_from_their_seed_which_is_the_commands_by_default(
    served: ModuleType, model: Any
) -> None:
    drawn = words(model, "emm", seed=1)

    assert words(model, "emm", seed=1) == drawn != words(model, "emm", seed=2)
    assert len(set(drawn)) > 10
    assert all(word.startswith("emm") for word in drawn)
    defaults: dict[str, Any] = {"seed": ARTICLE_SEED, "temperature": 1.0, "max_length": MAX_LENGTH}
    assert words(model) == words(model, **defaults)
    assert {param.name: param.default for param in served.SIGNATURE.params} == defaults


def test_model_that_never_ends_a_word_is_stopped(
    served: ModuleType, parameters: Parameters, tmp_path: Path
) -> None:
    bias_V = parameters.b2.clone()
    bias_V[0] = -1e9
    model = load(served, tmp_path, with_bias(parameters, bias_V))

    assert {len(word) for word in words(model)} == {MAX_LENGTH}
    assert {len(word) for word in words(model, "emma", max_length=7)} == {7}
    assert set(words(model, "emma", max_length=2)) == {"emma"}


def test_rows_of_both_kinds_keep_their_places(model: Any, parameters: Parameters) -> None:
    frame = pd.DataFrame(
        {"word": ["emma", None, None], "prefix": [None, "em", ""]}, index=[7, 3, 5]
    )

    answer = model.predict(None, frame)

    assert list(answer.index) == [7, 3, 5]
    (score, _, _), (nothing, em, new) = answer["nats_per_char"], answer["continuation"]
    assert score == pytest.approx(torch_nats(parameters, "emma"), abs=1e-5)
    assert nothing is None
    assert em.startswith("em")
    assert isinstance(new, str)
    assert "NaN" not in json.dumps(answer.to_dict("records"))
    assert model.predict(None, pd.DataFrame({"word": []})).empty


def test_text_is_read_as_the_corpus_was(served: ModuleType, tmp_path: Path) -> None:
    vocabulary = Vocabulary.of(["zoé", GOTHIC])
    parameters = make_parameters(vocabulary.size, 2, 8, 2)
    model = load(served, tmp_path, parameters, vocabulary)

    composed, apart, script = ask(model, [{"word": w} for w in ("zoé", "zoe\u0301", GOTHIC)])

    assert composed == apart
    expected = torch_nats(parameters, GOTHIC, vocabulary)
    assert script["nats_per_char"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"word": "emmä"}, "U+00E4"),
        ({"prefix": "Em"}, "U+0045"),
        ({"word": "em.ma"}, "U+002E"),
        ({"word": ""}, "word"),
        ({"word": "emma", "prefix": ""}, "prefix"),
        ({"word": None, "prefix": None}, "prefix"),
        ({"word": math.nan}, "CSV"),
        ({"word": 5}, "5"),
        ({"prefix": ["e"]}, "['e']"),
    ],
)
def test_bad_row_has_an_error_and_the_others_their_answers(
    model: Any, row: dict[str, Any], named: str
) -> None:
    """One bad word in a file of thousands does not cost the file."""
    good = [{"word": "emma"}, {"prefix": "em"}, {"prefix": ""}, {"word": "nan"}, {"word": "null"}]

    *answers, last = ask(model, good)
    mixed = ask(model, [*good[:2], row, *good[2:4], row, good[4]])

    assert [mixed[i] for i in (0, 1, 3, 4, 6)] == [*answers, last]
    assert all(answer["error"] is None for answer in [*answers, last])
    for number, answer in ((3, mixed[2]), (6, mixed[5])):
        assert answer["nats_per_char"] is answer["continuation"] is None
        assert f"row {number}" in answer["error"]
        assert named in answer["error"]
    json.dumps(mixed, allow_nan=False)


def test_words_that_a_csv_would_lose_are_scored(model: Any, parameters: Parameters) -> None:
    words = ["nan", "null", "none", "na"]

    answers = ask(model, [{"word": word} for word in words])

    for word, answer in zip(words, answers, strict=True):
        assert answer["nats_per_char"] == pytest.approx(torch_nats(parameters, word), abs=1e-5)


def test_signature_names_what_is_answered(served: ModuleType, model: Any) -> None:
    """MLflow shows the signature to those who ask."""
    (answer,) = ask(model, [{"word": "emma"}])

    assert served.SIGNATURE.outputs.input_names() == list(answer)


@pytest.mark.parametrize(
    ("row", "params", "named"),
    [
        ({"words": "emma"}, {}, "['words']"),
        *(
            (row, {name: value}, name)
            for row in ({"word": "emma"}, {"prefix": ""})
            for name, value in (
                ("seed", -1),
                ("temperature", 0.0),
                ("temperature", math.inf),
                ("temperature", math.nan),
                ("max_length", 0),
            )
        ),
    ],
)
def test_bad_request_is_refused(
    served: ModuleType, model: Any, row: dict[str, Any], params: dict[str, Any], named: str
) -> None:
    with pytest.raises(served.MlflowException) as caught:
        ask(model, [row], **params)

    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert named in str(caught.value)
