"""A space holds only ranges that can be sampled, and says in its file's words what is wrong."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.search.study.space import DEFAULTS, HYPERPARAMETERS, Range, Space
from tests.support.spaces import NAMES, good_tables

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


def test_part_of_a_table_keeps_the_other_defaults_and_their_order() -> None:
    """Optuna is asked in one order whatever order a file has, so a seed means one study."""
    assert Space.parse({}) == Space()
    assert list(Space().dimensions) == list(DEFAULTS) == list(HYPERPARAMETERS)
    assert not any(dimension.is_fixed for dimension in DEFAULTS.values())
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


@pytest.mark.parametrize(
    ("name", "table", "is_log"),
    [
        ("learning_rate", {"low": 0.1, "high": 0.4}, True),
        ("learning_rate", {"low": 0.1, "high": 0.4, "log": False}, False),
        ("block_size", {"low": 2, "high": 8}, False),
        ("block_size", {"low": 2, "high": 8, "log": True}, True),
        ("weight_decay", {"low": 1e-3, "high": 0.1}, True),
        ("weight_decay", {"low": 0, "high": 0.1}, False),  # 0 has no logarithm
    ],
)
def test_scale_is_the_files_to_say(name: str, table: dict[str, Any], *, is_log: bool) -> None:
    """Each hyperparameter has a scale of its own where a file names none."""
    assert Space.parse({name: table}).dimensions[name].log is is_log


@pytest.mark.parametrize(
    ("name", "entry", "held", "refused"),
    [
        ("hidden_width", {"low": 64, "high": 192, "step": 64}, (64, 128, 192), (63, 96, 256)),
        ("context_noise", {"low": 0.0, "high": 0.3, "step": 0.1}, (0, 0.1, 0.2, 0.3), (0.25, 0.4)),
        ("block_size", {"choices": [3.0, 5, 8]}, (3, 5.0, 8), (4, True, "3")),
        ("optimizer", {"choices": ["adam", "sgd"]}, ("adam", "sgd"), ("momentum", [])),
        ("hidden_width", 64.0, (64, 64.0), (65,)),
    ],
)
def test_point_holds_what_can_be_proposed(
    name: str, entry: Any, held: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    """A value between steps or beside choices is refused; whole numbers become ints."""
    space = Space.parse({name: entry})
    for value in held:
        point = space.check_point({name: value})
        assert point == {name: value}
        assert isinstance(point[name], float) == (name == "context_noise")
    for value in refused:
        with pytest.raises(InputError, match=name):
            space.check_point({name: value})


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
    ("name", "entry", "named"),
    [
        ("momentum", 0.9, "embedding_dim, "),
        ("learning_rate", "0.1", "'0.1'"),
        ("learning_rate", math.nan, "a number or a range"),
        ("learning_rate", {"low": 0.1}, "high"),
        ("learning_rate", {"low": 0.1, "high": 1, "odd": 2}, "a number or {"),
        ("learning_rate", {"low": 0.1, "high": 1, "step": 0}, "a step above 0, got 0"),
        ("learning_rate", {"low": 0.1, "high": 1, "step": 0.4}, "high = 0.9"),
        ("learning_rate", {"low": 0.1, "high": 1e9, "step": 0.1}, "1,000,000"),
        ("learning_rate", {"low": 0.1, "high": 1, "step": 0.1, "log": True}, "log = false"),
        ("learning_rate", {"low": 0.1, "high": math.inf}, "finite"),
        ("learning_rate", {"low": 0.1, "high": 1, "log": 1}, "log = true or false"),
        ("learning_rate", {"low": 0.5, "high": 0.1}, "low = 0.5 above high = 0.1"),
        ("learning_rate", {"low": 0, "high": 1}, "log scale"),
        ("learning_rate", 0, "above 0, got 0"),
        ("weight_decay", -1e-4, "0 or more, got -0.0001"),
        ("context_noise", 1.5, "at most 1"),
        ("hidden_width", 2.5, "whole numbers, got 2.5"),
        ("block_size", {"choices": [3, 5.5]}, "whole numbers"),
        ("block_size", {"choices": [3, "5"]}, "finite numbers as choices, got '5'"),
        ("block_size", {"choices": [3, 3.0]}, "a choice twice"),
        ("block_size", {"choices": []}, "a list of choices"),
        ("batch_size", 10**7, "at most"),
        ("targets", {"choices": ["examples", "words"]}, "examples, contexts"),
        ("targets", "contexts", "[training]"),
        ("schedule", {"low": 1, "high": 2}, "choices"),
    ],
)
def test_range_that_cannot_be_searched_is_refused(name: str, entry: Any, named: str) -> None:
    """A person reads which entry is wrong, what it takes and what it got."""
    with pytest.raises(InputError) as caught:
        Space.parse({name: entry})

    assert name in str(caught.value)
    assert named in str(caught.value)


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
    ("name", "value"),
    [
        ("seed", 1),
        ("learning_rate", 2.0),
        ("learning_rate", math.nan),
        ("hidden_width", 100.5),
        ("hidden_width", True),
        ("hidden_width", "100"),
        ("weight_decay", 0.01),
        ("optimizer", "adam"),
    ],
)
def test_point_outside_the_space_is_refused(name: str, value: Any) -> None:
    """Optuna would take it silently and draw something else in its place."""
    with pytest.raises(InputError, match=name) as caught:
        Space().check_point({name: value})

    assert name not in DEFAULTS or repr(value) in str(caught.value)


@given(point=st.dictionaries(NAMES | st.text(max_size=3), SCALARS | TABLES, max_size=3))
def test_any_point_is_inside_or_an_input_error(point: dict[str, Any]) -> None:
    """What is let through can be proposed."""
    try:
        checked = Space().check_point(point)
    except InputError:
        return
    assert all(DEFAULTS[name].holds(value) for name, value in checked.items())
