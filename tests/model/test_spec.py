"""A trial's spec: its counts, its limits, and its JSON."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.model.mlp import init_parameters
from mmsearch.model.spec import TrialSpec
from tests.support.specs import make_spec

SIZES = st.integers(1, 12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
RATES = st.floats(0, exclude_min=True, allow_infinity=False)


@given(embedding_dim=SIZES, hidden_width=SIZES, block_size=SIZES, vocab_size=SIZES)
def test_parameter_count_is_that_of_the_tensors(
    embedding_dim: int, hidden_width: int, block_size: int, vocab_size: int
) -> None:
    spec = make_spec(embedding_dim=embedding_dim, hidden_width=hidden_width, block_size=block_size)
    parameters = init_parameters(spec, vocab_size, torch.Generator())

    counted = sum(tensor.numel() for tensor in parameters.named().values())

    assert spec.n_parameters(vocab_size) == counted


def test_network_of_the_article_has_3481_parameters() -> None:
    spec = make_spec(embedding_dim=2, hidden_width=100, block_size=3)

    assert spec.n_parameters(vocab_size=27) == 3481


@given(data=st.data(), n_steps=st.integers(1, 10**7))
def test_segments_share_the_steps_out_evenly(data: st.DataObject, n_steps: int) -> None:
    n_segments = data.draw(st.integers(1, min(n_steps, 200)))
    spec = make_spec(n_steps=n_steps, n_segments=n_segments)

    ends = [spec.segment_end(segment) for segment in range(n_segments + 1)]
    lengths = [end - start for start, end in pairwise(ends)]

    assert (ends[0], ends[-1]) == (0, n_steps)
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("embedding_dim", "hidden_width", "block_size", "batch_size")),
        *(("n_steps", value) for value in (0, -3)),
        *(("n_segments", value) for value in (0, 61)),
        *(("learning_rate", value) for value in (0.0, -0.1, math.inf, math.nan, 10**400)),
        *(("weight_decay", value) for value in (-1e-9, math.inf, math.nan, 10**400)),
        ("seed", -1),
        ("init", "kaiming"),
        ("schedule", ""),
    ],
)
def test_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name) as caught:
        make_spec(**{name: value})

    assert str(value) in str(caught.value)


@given(
    rate=RATES,
    decay=RATES | st.just(0.0),
    seed=st.integers(0, 2**64),
    init=st.sampled_from(["scaled", "article"]),
    schedule=st.sampled_from(["cosine", "step", "constant"]),
)
def test_json_gives_the_spec_back(
    rate: float, decay: float, seed: int, init: str, schedule: str
) -> None:
    spec = make_spec(
        learning_rate=rate, weight_decay=decay, seed=seed, init=init, schedule=schedule
    )

    assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": ...}, "seed"),
        ({"momentum": 0.9}, "momentum"),
        ({"seed": ..., "sead": 1}, "sead, seed"),
        ({"seed": True}, "wrong seed"),
        ({"n_steps": 60.0}, "wrong n_steps"),
        ({"learning_rate": "0.1"}, "wrong learning_rate"),
        ({"init": None}, "wrong init"),
        ({"block_size": []}, "wrong block_size"),
    ],
)
def test_missing_unknown_or_mistyped_field_is_refused_by_name(
    change: dict[str, Any], named: str
) -> None:
    values = {k: v for k, v in {**make_spec().to_json(), **change}.items() if v is not ...}

    with pytest.raises(InputError, match=named):
        TrialSpec.from_json(values)


@given(name=st.sampled_from(sorted(make_spec().to_json())), value=JSON)
def test_any_json_value_gives_a_spec_or_an_input_error(name: str, value: Any) -> None:
    try:
        spec = TrialSpec.from_json({**make_spec().to_json(), name: value})
    except InputError:
        return
    assert getattr(spec, name) == value
