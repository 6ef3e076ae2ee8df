"""The model that MLflow serves: it scores words and continues prefixes, with NumPy alone.

MLflow copies this file into the logged model ("models from code") and runs it where mmsearch and
torch are not installed: it imports neither, and computes in NumPy what `model.mlp` and
`model.sampling` compute in torch. Only `registry.publish` imports it, since its imports are slow.

Shape suffixes, as in `model.mlp`: B examples, T block_size, V vocab_size.
"""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOUNDARY_ID = 0
"""Id of the character before and after every word."""

DEFAULTS = {"seed": 2147483647 + 10, "temperature": 1.0, "max_length": 100}
"""Parameters of a request; `mmsearch sample` has the same defaults."""

OUTPUTS = ("nats_per_char", "continuation", "error")
"""Columns of an answer."""

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "word", required=False),
            ColSpec(DataType.string, "prefix", required=False),
        ]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.double, "nats_per_char", required=False),
            ColSpec(DataType.string, "continuation", required=False),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("seed", DataType.long, DEFAULTS["seed"]),
            ParamSpec("temperature", DataType.double, DEFAULTS["temperature"]),
            ParamSpec("max_length", DataType.long, DEFAULTS["max_length"]),
        ]
    ),
)
"""Inputs, outputs and parameters of the model."""


class CharacterModel(PythonModel):
    """The character MLP behind MLflow's `predict`.

    A request that is not valid as a whole is a 400; a row that is not valid has an `error`.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifact `model`: the folder that `mmsearch export` writes."""
        folder = Path(context.artifacts["model"])
        self.weights = load_file(folder / "weights.safetensors")
        self.block_size: int = json.loads((folder / "spec.json").read_bytes())["block_size"]
        self.characters: list[str] = json.loads((folder / "vocabulary.json").read_bytes())
        self.ids = {character: i for i, character in enumerate(self.characters)}

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 (MLflow's, given by position)
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Score each row's word, or continue its prefix.

        Args:
            context: not used.
            model_input: string columns `word` and `prefix`; each row has one of the two. The
                prefix "" asks for a whole new word. Text is normalised to NFC, as the corpus was.
                MLflow reads an empty field of a CSV, and `nan`, `null`, `NA` and the like, as
                missing, quoted or not: JSON keeps them.
            params: `seed` of the draws, 0 or more; `temperature`, which divides the logits;
                `max_length`, in characters. NumPy's generator draws other words than torch's in
                `mmsearch sample`.

        Returns:
            For each row `nats_per_char`, the mean cross-entropy over the word's characters and its
            end, or `continuation`, the prefix with what follows, or `error`, which names the row,
            counted from 1; the other two are None, since JSON has no NaN.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, for a parameter that is not valid, or if the
                input has neither of the two columns, as an empty JSON list has none.
        """
        seed, temperature, max_length = _checked(DEFAULTS | (params or {}))
        rng = np.random.default_rng(seed)
        columns = [name for name in ("word", "prefix") if name in model_input]
        if not columns:
            raise _invalid(
                f"the input must have a column 'word' or 'prefix', got {list(model_input.columns)}"
            )
        answers: list[dict[str, float | str]] = []
        for number, row in enumerate(model_input[columns].to_dict("records"), start=1):
            try:
                word, prefix = _request(row)
                if word is not None:
                    answers.append({"nats_per_char": self.nats_per_char(word)})
                else:
                    continued = self.continued(prefix or "", rng, temperature, max_length)
                    answers.append({"continuation": continued})
            except ValueError as error:
                answers.append({"error": f"row {number}: {error}"})
        outputs = {name: [row.get(name) for row in answers] for name in OUTPUTS}
        return pd.DataFrame(outputs, index=model_input.index, dtype=object)

    def nats_per_char(self, word: str) -> float:
        """Return the mean cross-entropy of a word's characters and its end, in nats.

        Raises:
            ValueError: the word is empty or has a character that the model does not know.
        """
        if not word:
            raise ValueError("a word must have at least 1 character, got ''")
        targets_B = np.array([*self._encode(word), BOUNDARY_ID])
        padded = np.concatenate((np.full(self.block_size, BOUNDARY_ID), targets_B))
        logits_BV = self._logits(sliding_window_view(padded, self.block_size)[:-1])
        logits_BV -= logits_BV.max(axis=1, keepdims=True)
        normalisers_B = np.log(np.exp(logits_BV).sum(axis=1))
        return float((normalisers_B - logits_BV[np.arange(len(targets_B)), targets_B]).mean())

    def continued(
        self, prefix: str, rng: np.random.Generator, temperature: float, max_length: int
    ) -> str:
        """Draw characters after a prefix until the word ends or has `max_length` of them.

        Raises:
            ValueError: the prefix has a character that the model does not know.
        """
        ids = self._encode(prefix)
        while len(ids) < max_length:
            context_T = ([BOUNDARY_ID] * self.block_size + ids)[-self.block_size :]
            logits_V = self._logits(np.array([context_T]))[0]
            # Differences are at most 0, so that a temperature near 0 gives a weight of 0.
            with np.errstate(over="ignore"):
                weights_V = np.exp((logits_V - logits_V.max()) / temperature)
            next_id = int(rng.choice(len(weights_V), p=weights_V / weights_V.sum()))
            if next_id == BOUNDARY_ID:
                break
            ids.append(next_id)
        return "".join(self.characters[i] for i in ids)

    def _logits(self, inputs_BT: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the logits, computed in the dtype of the weights; shape (B, V)."""
        emb_BK = self.weights["C"][inputs_BT].reshape(len(inputs_BT), -1)
        h_BH = np.tanh(emb_BK @ self.weights["W1"] + self.weights["b1"])
        logits_BV: NDArray[np.float64] = (h_BH @ self.weights["W2"] + self.weights["b2"]).astype(
            np.float64
        )
        return logits_BV

    def _encode(self, text: str) -> list[int]:
        for character in text:
            if self.ids.get(character, BOUNDARY_ID) == BOUNDARY_ID:
                raise ValueError(
                    f"character {character!r} (U+{ord(character):04X}) of {text!r} cannot stand in "
                    f"a word; use the {len(self.characters) - 1} characters that the model knows"
                )
        return [self.ids[character] for character in text]


def _request(row: dict[str, object]) -> tuple[str | None, str | None]:
    """Return the word and the prefix of a row, one of which is None.

    Raises:
        ValueError: the row has both or neither, or one that is not a string.
    """
    word, prefix = _text(row.get("word")), _text(row.get("prefix"))
    if word is None and prefix is None:
        raise ValueError(
            "it has neither a word nor a prefix; in a CSV, an empty field, nan, null, NA and the "
            "like count as missing: send JSON"
        )
    if word is not None and prefix is not None:
        raise ValueError(f"it must not have both, got word {word!r} and prefix {prefix!r}")
    return word, prefix


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    raise ValueError(f"a word or prefix must be a string, got {value!r}")


def _checked(params: dict[str, Any]) -> tuple[int, float, int]:
    seed, temperature, max_length = (params[name] for name in DEFAULTS)
    if seed < 0:
        raise _invalid(f"seed must be 0 or more, got {seed}")
    if not 0 < temperature < math.inf:
        raise _invalid(f"temperature must be above 0 and finite, got {temperature}")
    if max_length < 1:
        raise _invalid(f"max_length must be at least 1 character, got {max_length}")
    return int(seed), float(temperature), int(max_length)


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, INVALID_PARAMETER_VALUE)


# MLflow finds a model from code by this call, which only stores the object.
set_model(CharacterModel())
