"""Settings hold only what can be searched."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.search.study.recipes import RANGES, RECIPES, start_point
from mmsearch.search.study.settings import Settings, differences, settle
from mmsearch.search.study.space import Space
from tests.support.spaces import good_settings

START = start_point(1_000)
BAD: dict[str, tuple[Any, ...]] = {
    "steps": (0, 100.0, True),
    "batch_size": (-1,),
    "segments": (0, 1_001),
    "seed": (-1, "1"),
    "training_seed": (-2,),
    "split_seed": (-42,),
    "keep_duplicates": (1,),
    "init": ("kaiming",),
    "schedule": (["step"],),
    "sampler": ("grid",),
    "optimizer": ("momentum",),
    "patience": (-1, 1.0),
    "extend_to": (0.5, True, float("nan")),
    "cut_at": (2,),
    "start": (0,),
    "pruner": (None,),
}


@pytest.mark.parametrize(("name", "value"), [(n, value) for n in BAD for value in BAD[n]])
def test_setting_out_of_range_is_refused(name: str, value: Any) -> None:
    """It is named with the value it got, whether a study is begun or gone on with."""
    said = rf"^{name}\b.*{re.escape(repr(value))}"
    with pytest.raises(InputError, match=said):
        Settings(**{name: value})
    with pytest.raises(InputError, match=said):
        settle({name: value}, Settings())


@given(settings=good_settings())
def test_json_gives_the_settings_back(settings: Settings) -> None:
    """A study goes on with exactly what it was started with, said again or not."""
    stored = json.loads(json.dumps(settings.to_json()))

    assert Settings.from_json(stored) == settings == settle({}, settings)
    assert differences(settings, settle(stored, settings), stored) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": ...}, "seed"),
        ({"momentum": 1}, "momentum"),
        ({"space": None}, "space"),
        ({"space": []}, "space"),
        ({"space": {"odd": 1}}, "odd"),
        ({"space": {"block_size": 3}}, "embedding_dim, hidden"),
        ({"steps": "20000"}, "steps"),
    ],
)
def test_stored_settings_of_another_version_are_refused(change: dict[str, Any], named: str) -> None:
    """A study of another version is not searched on as if its settings meant the same."""
    values = {k: v for k, v in {**Settings().to_json(), **change}.items() if v is not ...}

    with pytest.raises(InputError, match=named):
        Settings.from_json(values)


@given(low=st.floats(1e-9, 0.99), high=st.floats(1.0, 9.0))
@example(low=0.01, high=1.0)
@example(low=0.010000001, high=1.0)
def test_values_that_differ_are_not_said_as_equal(low: float, high: float) -> None:
    """`0.01 to 1, not 0.01 to 1` would explain nothing, however small the difference."""
    stored = Settings(space=Space.parse({"learning_rate": {"low": 0.01, "high": 1.0}}))

    given = {"space": {"learning_rate": {"low": low, "high": high}}}
    found = differences(stored, settle(given, stored), given)

    assert len(found) == ((low, high) != (0.01, 1.0))
    for text in found:
        before, after = re.findall(r"([\d.e-]+) to ([\d.e-]+)", text)
        assert before != after


def test_trial_gets_its_point_its_seed_and_the_budget() -> None:
    """Trials are trained for as long and in the same way, but for what is proposed for each."""
    given = {"batch_size": 16, "init": "article", "schedule": "step", "cut_at": 0.75}
    searched = {"averaging": {"choices": ["none", "polynomial"]}}
    settings = settle({"steps": 100, "segments": 5, **given, "space": searched})
    point = {**START, "averaging": "none"}

    spec = settings.trial_spec(point, seed=99).to_json()

    same = ("optimizer", "targets", "evaluations", "patience", "extend_to", "cut_factor")
    of_the_settings = {name: getattr(settings, name) for name in same}
    budget = {"seed": 99, "n_steps": 100, "n_segments": 5}
    assert spec == {**point, **budget, **given, **of_the_settings}


def test_recipe_stands_for_its_keys_and_other_keys_win() -> None:
    """It is not stored, so a study does not change when a later version has another recipe."""
    settings = settle({"recipe": "article", "steps": 500, "space": {"block_size": 3}})

    assert settings.steps == 500
    assert (settings.init, settings.optimizer, settings.patience) == ("article", "sgd", 0)
    assert str(settings.space.dimensions["block_size"]) == "3"
    assert settings.space.dimensions["weight_decay"].is_fixed
    assert "recipe" not in settings.to_json()


def test_differences_name_only_what_was_given() -> None:
    """A recipe stands for settings that its user may never have heard of."""
    given = {"recipe": "article", "batch_size": 16, "space": {"block_size": 4}}
    found = differences(Settings(), settle(given, Settings()), given)
    assert [text.split()[0] for text in found[:2]] == ["batch_size", "block_size"]
    assert len(found) == 3
    assert "'article'" in found[2]


@pytest.mark.parametrize(
    ("given", "named", "unnamed"),
    [
        ({"steps": 10}, "steps", "segments"),
        ({"segments": 5000}, "segments", "steps "),
        ({"segments": 0}, "segments", "steps"),
        ({"steps": 4, "segments": 5}, "segments", "batch"),
        ({"recipe": "article", "steps": 10}, "steps", "segments"),
    ],
)
@pytest.mark.parametrize("stored", [None, Settings()])
def test_error_names_no_setting_that_was_not_given(
    stored: Settings | None, given: dict[str, Any], named: str, unnamed: str
) -> None:
    """Whoever asks for ten steps has never heard of segments."""
    with pytest.raises(InputError) as caught:
        settle(given, stored)
    assert named in str(caught.value)
    assert unnamed not in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_default_ranges_follow_the_optimizer(recipe: str, optimizer: str) -> None:
    """A rate that is right for Adam is far from one that is right for SGD."""
    space = settle({"recipe": recipe, "optimizer": optimizer}).space.to_json()
    own = RECIPES[recipe].settings["optimizer"] == optimizer
    wanted = RECIPES[recipe].space if own else RANGES[optimizer]

    assert {name: space[name] for name in RANGES[optimizer]} == {
        name: wanted[name] for name in RANGES[optimizer]
    }


@pytest.mark.parametrize("given", ["learning_rate", "weight_decay", None])
def test_searched_optimizer_needs_ranges_of_its_own(given: str | None) -> None:
    """No default range is right for both; who searches it must say one."""
    both = {"optimizer": {"choices": ["sgd", "adam"]}, "learning_rate": 0.1, "weight_decay": 0}
    assert "optimizer" in settle({"space": both}).space.dimensions
    missing = [name for name in ("learning_rate", "weight_decay") if name != given]
    with pytest.raises(InputError, match=missing[0]):
        settle({"space": {n: value for n, value in both.items() if n not in missing}})


def test_start_point_is_what_the_space_holds_of_it() -> None:
    """A value outside of the space is left to the sampler, and so is all of it without `start`."""
    searched = {name for name, held in Settings().space.dimensions.items() if not held.is_fixed}
    assert Settings().start_points(1_000) == [{n: v for n, v in START.items() if n in searched}]
    table = {"hidden_width": {"low": 8, "high": 16}, "block_size": 3}
    [point] = settle({"optimizer": "sgd", "space": table}).start_points(1_000)
    assert point == {name: START[name] for name in ("embedding_dim", "context_noise")}
    for settings in ({"start": False}, {"recipe": "article"}, {"space": START}):
        assert settle(settings).start_points(1_000) == []
