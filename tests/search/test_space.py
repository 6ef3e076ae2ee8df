"""A space holds only ranges that can be sampled, and says in its file's words what is wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.search.space import DEFAULTS, Dimension, Space

NAMES = st.sampled_from(list(DEFAULTS))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**64])
    | st.floats()
    | st.text(max_size=4)
)
TABLES = st.dictionaries(
    st.sampled_from(["low", "high", "log", "step"]), SCALARS | st.lists(SCALARS, max_size=2)
)


@st.composite
def good_tables(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a `[space]` table that can be searched."""
    table: dict[str, Any] = {}
    for name in draw(st.sets(NAMES)):
        numbers = (
            st.integers(1, 10_000)
            if DEFAULTS[name].is_int
            else st.floats(1e-12, 1e6, allow_nan=False)
        )
        low, high = sorted((draw(numbers), draw(numbers)))
        given_log = draw(st.sampled_from([{}, {"log": True}, {"log": False}]))
        table[name] = draw(st.sampled_from([low, {"low": low, "high": high, **given_log}]))
    return table


def test_empty_table_is_the_default_space() -> None:
    """Four hyperparameters are searched as the design says; weight decay is off until asked for."""
    space = Space.parse({})

    assert space == Space()
    assert list(space.dimensions) == [
        "embedding_dim",
        "hidden_width",
        "block_size",
        "learning_rate",
        "weight_decay",
    ]
    assert [name for name, d in space.dimensions.items() if d.is_fixed] == ["weight_decay"]
    assert [name for name, d in space.dimensions.items() if d.log] == [
        "embedding_dim",
        "hidden_width",
        "learning_rate",
    ]


def test_part_of_a_table_keeps_the_other_defaults_and_their_order() -> None:
    """Optuna is asked in one order whatever order a file has, so a seed means one study."""
    space = Space.parse({"learning_rate": {"low": 0.1, "high": 0.4}, "embedding_dim": 10})

    assert list(space.dimensions) == list(DEFAULTS)
    assert space.dimensions["hidden_width"] == DEFAULTS["hidden_width"]
    assert space.dimensions["learning_rate"] == Dimension(low=0.1, high=0.4, log=True)
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
        assert dimension.holds(dimension.low), name
        assert dimension.holds(dimension.high), name


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"momentum": 0.9}, "no hyperparameter 'momentum'; it has embedding_dim, "),
        ({"learning_rate": "0.1"}, "learning_rate takes a number or a range, got '0.1'"),
        ({"learning_rate": True}, "learning_rate takes a number or a range, got True"),
        ({"learning_rate": math.nan}, "learning_rate takes a number or a range"),
        ({"learning_rate": [0.1, 0.2]}, "learning_rate takes a number or a range"),
        ({"learning_rate": {"low": 0.1}}, "learning_rate takes a number or {"),
        (
            {"learning_rate": {"low": 0.1, "high": 1, "step": 2}},
            "learning_rate takes a number or {",
        ),
        ({"learning_rate": {"low": 0.1, "high": math.inf}}, "learning_rate takes finite numbers"),
        ({"learning_rate": {"low": 0.1, "high": 10**400}}, "learning_rate takes finite numbers"),
        ({"learning_rate": {"low": "a", "high": 1}}, "learning_rate takes finite numbers"),
        ({"learning_rate": {"low": 0.1, "high": 1, "log": 1}}, "log = true or false"),
        ({"learning_rate": {"low": 0.5, "high": 0.1}}, "low = 0.5 above high = 0.1"),
        ({"learning_rate": {"low": 0, "high": 1}}, "log scale, so low must be above 0, got 0"),
        ({"learning_rate": 0}, "learning_rate must stay above 0, got low = 0"),
        (
            {"learning_rate": {"low": -1, "high": 1, "log": False}},
            "must stay above 0, got low = -1",
        ),
        ({"weight_decay": -1e-4}, "weight_decay must stay above 0, got low = -0.0001"),
        ({"weight_decay": {"low": 0.0, "high": 1.0, "log": True}}, "log scale"),
        ({"hidden_width": 2.5}, "hidden_width takes whole numbers, got 2.5"),
        ({"block_size": {"low": 1, "high": 2.5}}, "block_size takes whole numbers"),
        ({"block_size": 0}, "block_size must stay above 0"),
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
    assert list(space.dimensions) == list(DEFAULTS)
    assert all(d.low <= d.high for d in space.dimensions.values())


def test_point_may_leave_hyperparameters_out() -> None:
    """[[enqueue]] fixes what a person knows; the sampler draws the rest."""
    point = Space().check_point({"hidden_width": 100.0, "learning_rate": 1})

    assert point == {"hidden_width": 100, "learning_rate": 1.0}
    assert [type(value) for value in point.values()] == [int, float]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"seed": 1}, "no hyperparameter 'seed'"),
        (
            {"learning_rate": 2.0},
            "learning_rate = 2.0, outside of its range in [space] (0.01 to 1,",
        ),
        ({"hidden_width": 100.5}, "hidden_width = 100.5"),
        ({"hidden_width": True}, "hidden_width = True"),
        ({"hidden_width": "100"}, "hidden_width = '100'"),
        ({"hidden_width": 10**400}, "hidden_width = 1000"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"weight_decay": 0.1}, "weight_decay = 0.1, outside of its range in [space] (0)"),
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
