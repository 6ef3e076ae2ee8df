"""A space holds only ranges that can be sampled, and says in its file's words what is wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.search.study.space import DEFAULTS, HYPERPARAMETERS, TRAINING, Choices, Range, Space

NAMES = st.sampled_from([*HYPERPARAMETERS, *TRAINING])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**64])
    | st.floats()
    | st.text(max_size=4)
)
TABLES = st.dictionaries(
    st.sampled_from(["low", "high", "log", "step", "choices"]),
    SCALARS | st.lists(SCALARS, max_size=2),
)


@st.composite
def good_tables(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a `[space]` table that can be searched."""
    table: dict[str, Any] = {}
    for name in draw(st.sets(NAMES)):
        kind = {**HYPERPARAMETERS, **TRAINING}[name]
        if kind.words:
            words = draw(st.lists(st.sampled_from(kind.words), min_size=1, unique=True))
            table[name] = {"choices": words}
            continue
        numbers = (
            st.integers(1, 10_000)
            if kind.is_int
            else st.floats(1e-12, min(kind.high, 1e6), allow_nan=False)
        )
        low, high = sorted((draw(numbers), draw(numbers)))
        given_log = draw(st.sampled_from([{}, {"log": True}, {"log": False}]))
        choices = draw(st.lists(numbers, min_size=1, max_size=4, unique=True))
        table[name] = draw(
            st.sampled_from(
                [low, {"low": low, "high": high, **given_log}, {"choices": choices}]
                + ([{"low": low, "high": low + 30, "step": 10}] if kind.is_int else [])
            )
        )
    return table


def test_empty_table_is_the_default_space() -> None:
    """The owner's four hyperparameters are searched, and what must adapt to the corpus beside."""
    space = Space.parse({})

    assert space == Space()
    assert list(space.dimensions) == [
        "embedding_dim",
        "hidden_width",
        "block_size",
        "learning_rate",
        "weight_decay",
        "context_noise",
    ]
    assert not any(dimension.is_fixed for dimension in space.dimensions.values())


def test_part_of_a_table_keeps_the_other_defaults_and_their_order() -> None:
    """Optuna is asked in one order whatever order a file has, so a seed means one study."""
    space = Space.parse(
        {
            "averaging": {"choices": ["none", "polynomial"]},
            "learning_rate": {"low": 0.1, "high": 0.4},
            "batch_size": 16,
            "embedding_dim": 10,
        }
    )

    assert list(space.dimensions) == [*DEFAULTS, "batch_size", "averaging"]
    assert space.dimensions["hidden_width"] == DEFAULTS["hidden_width"]
    assert space.dimensions["learning_rate"] == Range(low=0.1, high=0.4, log=True)
    assert space.dimensions["embedding_dim"].is_fixed


def test_log_can_be_switched_off_and_on() -> None:
    """What is searched on a log scale is the file's to say."""
    space = Space.parse(
        {
            "learning_rate": {"low": 0.1, "high": 0.4, "log": False},
            "block_size": {"low": 2, "high": 8, "log": True},
        }
    )

    assert not space.dimensions["learning_rate"].log
    assert space.dimensions["block_size"].log


def test_range_from_zero_on_is_evenly_searched() -> None:
    """0 has no logarithm, and a person who writes it should not have to say so."""
    space = Space.parse({"weight_decay": {"low": 0, "high": 0.1}})

    assert not space.dimensions["weight_decay"].log
    assert Space.parse({"weight_decay": {"low": 1e-3, "high": 0.1}}).dimensions["weight_decay"].log


def test_step_leaves_the_values_that_it_reaches() -> None:
    """A point between two of them cannot be proposed."""
    space = Space.parse(
        {
            "hidden_width": {"low": 64, "high": 256, "step": 64},
            "context_noise": {"low": 0.0, "high": 0.3, "step": 0.1},
        }
    )

    width, noise = space.dimensions["hidden_width"], space.dimensions["context_noise"]
    assert [value for value in range(300) if width.holds(value)] == [64, 128, 192, 256]
    assert [value for value in (0, 0.05, 0.1, 0.2, 0.3, 0.4) if noise.holds(value)] == [
        0,
        0.1,
        0.2,
        0.3,
    ]
    assert space.check_point({"context_noise": 0.3}) == {"context_noise": 0.3}
    with pytest.raises(InputError, match="context_noise"):
        space.check_point({"context_noise": 0.25})


def test_choices_are_numbers_of_the_kind_or_known_words() -> None:
    """A trial gets an int where it needs one."""
    space = Space.parse(
        {"block_size": {"choices": [3.0, 5, 8]}, "optimizer": {"choices": ["adam", "sgd"]}}
    )

    assert space.dimensions["block_size"] == Choices(values=(3, 5, 8))
    point = space.check_point({"block_size": 5.0, "optimizer": "sgd"})
    assert point == {"block_size": 5, "optimizer": "sgd"}
    assert type(point["block_size"]) is int
    for name, value in (("block_size", 4), ("optimizer", "momentum"), ("optimizer", [])):
        with pytest.raises(InputError, match=name):
            space.check_point({name: value})


def test_whole_numbers_may_be_written_as_floats() -> None:
    """`64.0` is 64, and a trial gets an int."""
    space = Space.parse({"hidden_width": 64.0})

    assert space.to_json()["hidden_width"] == 64
    assert type(space.to_json()["hidden_width"]) is int


@given(table=good_tables())
def test_json_gives_the_space_back(table: dict[str, Any]) -> None:
    """A study's space is read back from study.json as it was, and its JSON is stable."""
    space = Space.parse(table)
    stored = json.loads(json.dumps(space.to_json()))

    again = Space.parse(stored)

    assert again == space
    assert again.to_json() == stored
    for name, dimension in again.dimensions.items():
        ends = (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension.values
        assert all(map(dimension.holds, ends)), name


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"momentum": 0.9}, "no hyperparameter 'momentum'; it has embedding_dim, "),
        ({"learning_rate": "0.1"}, "learning_rate takes a number or a range, got '0.1'"),
        ({"learning_rate": True}, "learning_rate takes a number or a range, got True"),
        ({"learning_rate": math.nan}, "learning_rate takes a number or a range"),
        ({"learning_rate": [0.1, 0.2]}, "learning_rate takes a number or a range"),
        ({"learning_rate": {"low": 0.1}}, "learning_rate takes a number or {"),
        ({"learning_rate": {"low": 0.1, "high": 1, "odd": 2}}, "learning_rate takes a number or {"),
        ({"learning_rate": {"low": 0.1, "high": 1, "step": 0}}, "a step above 0, got 0"),
        ({"learning_rate": {"low": 0.1, "high": 1, "step": 0.4}}, "write high = 0.9"),
        ({"learning_rate": {"low": 0.1, "high": 1e9, "step": 0.1}}, "more than 1,000,000 values"),
        (
            {"learning_rate": {"low": 0.1, "high": 1, "step": 0.1, "log": True}},
            "leave out step or write log = false",
        ),
        ({"block_size": {"low": 1, "high": 5, "step": 0.5}}, "block_size takes whole numbers"),
        ({"block_size": {"choices": [3, 5.5]}}, "block_size takes whole numbers"),
        ({"block_size": {"choices": [3, "5"]}}, "takes finite numbers as choices, got '5'"),
        ({"block_size": {"choices": [3, 3.0]}}, "block_size has a choice twice"),
        ({"block_size": {"choices": []}}, "block_size takes a list of choices"),
        ({"block_size": {"choices": 3}}, "block_size takes a list of choices"),
        ({"batch_size": {"choices": [0]}}, "batch_size must be above 0, got 0"),
        ({"batch_size": 10**7}, "batch_size must be at most"),
        ({"context_noise": 1.5}, "context_noise must be at most 1"),
        ({"targets": {"choices": ["examples", "words"]}}, "takes choices of examples, contexts"),
        ({"targets": "contexts"}, "under [training]: targets = 'contexts'"),
        ({"schedule": {"low": 1, "high": 2}}, "schedule takes { choices = [...] }"),
        ({"learning_rate": {"low": 0.1, "high": math.inf}}, "learning_rate takes finite numbers"),
        ({"learning_rate": {"low": 0.1, "high": 10**400}}, "learning_rate takes finite numbers"),
        ({"learning_rate": {"low": "a", "high": 1}}, "learning_rate takes finite numbers"),
        ({"learning_rate": {"low": 0.1, "high": 1, "log": 1}}, "log = true or false"),
        ({"learning_rate": {"low": 0.5, "high": 0.1}}, "low = 0.5 above high = 0.1"),
        ({"learning_rate": {"low": 0, "high": 1}}, "log scale, so low must be above 0, got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        (
            {"learning_rate": {"low": -1, "high": 1, "log": False}},
            "must be above 0, got -1",
        ),
        ({"weight_decay": -1e-4}, "weight_decay must be 0 or more, got -0.0001"),
        ({"weight_decay": {"low": 0.0, "high": 1.0, "log": True}}, "log scale"),
        ({"hidden_width": 2.5}, "hidden_width takes whole numbers, got 2.5"),
        ({"block_size": {"low": 1, "high": 2.5}}, "block_size takes whole numbers"),
        ({"block_size": 0}, "block_size must be above 0"),
    ],
)
def test_range_that_cannot_be_searched_is_refused(table: dict[str, Any], message: str) -> None:
    """A person reads which entry is wrong, what it takes and what it got."""
    with pytest.raises(InputError) as caught:
        Space.parse(table)

    assert message in str(caught.value)


@given(table=st.dictionaries(NAMES | st.text(max_size=3), SCALARS | TABLES, max_size=3))
def test_any_table_gives_a_space_or_an_input_error(table: dict[str, Any]) -> None:
    """Whatever stands in [space], nobody sees a traceback, and no default gets lost."""
    try:
        space = Space.parse(table)
    except InputError:
        return
    assert list(space.dimensions)[: len(DEFAULTS)] == list(DEFAULTS)
    assert Space.parse(space.to_json()) == space


def test_point_may_leave_hyperparameters_out() -> None:
    """[[enqueue]] fixes what a person knows; the sampler draws the rest."""
    point = Space().check_point({"hidden_width": 100.0, "weight_decay": 1})

    assert point == {"hidden_width": 100, "weight_decay": 1.0}
    assert [type(value) for value in point.values()] == [int, float]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"seed": 1}, "no hyperparameter 'seed'"),
        (
            {"learning_rate": 2.0},
            "learning_rate = 2.0, outside of its range in [space] (",
        ),
        ({"hidden_width": 100.5}, "hidden_width = 100.5"),
        ({"hidden_width": True}, "hidden_width = True"),
        ({"hidden_width": "100"}, "hidden_width = '100'"),
        ({"hidden_width": 10**400}, "hidden_width = 1000"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"weight_decay": 0.01}, "weight_decay = 0.01, outside of its range in [space] (0.02 to"),
        ({"optimizer": "adam"}, "no hyperparameter 'optimizer'"),
    ],
)
def test_point_outside_the_space_is_refused(point: dict[str, Any], message: str) -> None:
    """Optuna would take it silently and draw something else in its place."""
    with pytest.raises(InputError) as caught:
        Space().check_point(point)

    assert message in str(caught.value)


@given(point=st.dictionaries(NAMES | st.text(max_size=3), SCALARS | TABLES, max_size=3))
def test_any_point_is_inside_or_an_input_error(point: dict[str, Any]) -> None:
    """What is let through can be proposed."""
    try:
        checked = Space().check_point(point)
    except InputError:
        return
    assert all(DEFAULTS[name].holds(value) for name, value in checked.items())
