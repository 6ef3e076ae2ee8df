"""Settings hold only what can be searched, and a config file only what is known."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmsearch.errors import InputError
from mmsearch.search.study.recipes import RANGES, RECIPES, start_point
from mmsearch.search.study.settings import (
    TABLES,
    Config,
    Settings,
    differences,
    read_config,
    settle,
)
from mmsearch.search.study.space import DEFAULTS, TRAINING, Space
from tests.support.spaces import good_settings

START = start_point(1_000)
KEYS = ["recipe", *sorted(key for keys in TABLES.values() for key in keys)]
SHORT_VALUES = """
1 0 -1 20 20000 1.0 nan inf -inf 1e999 true false "tpe" 'none' "" "cosine" [] [1] {} {low=1} \"\"\"
{low=1,high=2} {low=1,high=4,log=true} {low="a",high=[]} 1979-05-27 07:32:00 0x10 1_000 {low=[]}
"article" "sgd" {choices=["sgd","adam"]} {choices=[1,2]} {choices=[]} {low=1,high=9e300,step=1}
{low=2,high=1} {low=0,high=1,log=true} {low=nan,high=1} {low=1e-300,high=1e300}
"""
LONG_VALUES = ("9" * 400, "9" * 5000, "0x" + "f" * 5000, "[" * 3000, "{x=" * 2000)
LINES = st.one_of(
    st.sampled_from(["[corpus]", "[training]", "[search]", "[space]", "[[enqueue]]", "[odd]"]),
    st.sampled_from(["[[search]]", "[space.learning_rate]", "[enqueue]", "enqueue = [1]", "#", ""]),
    st.builds(
        "{} = {}".format,
        st.sampled_from([*KEYS, *DEFAULTS, *TRAINING, "odd", "a.b"]),
        st.sampled_from([*SHORT_VALUES.split(), *LONG_VALUES]),
    ),
    st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8),  # or no UTF-8
)


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Name a config file for tests that write it many times."""
    return tmp_path_factory.mktemp("config") / "study.toml"


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


CONFIG = """
[corpus]
keep_duplicates = true
[training]
steps = 500
init = "article"
[search]
sampler = "random"
[space]
hidden_width = 64
learning_rate = { low = 0.05, high = 0.5, log = true }
[[enqueue]]
learning_rate = 0.1
[[enqueue]]
"""


def test_config_says_what_it_says_and_no_more(config_path: Path) -> None:
    """Only given settings are compared with a stored study's, so defaults may not sneak in."""
    config_path.write_text(CONFIG)
    rate = {"low": 0.05, "high": 0.5, "log": True}
    space = {"hidden_width": 64, "learning_rate": rate}
    given = {"keep_duplicates": True, "steps": 500, "init": "article", "sampler": "random"}
    assert read_config(config_path) == Config(
        {**given, "space": space}, ({"learning_rate": 0.1}, {})
    )
    config_path.write_text("")
    assert read_config(config_path) == Config({})


def test_flag_goes_before_the_file_while_it_is_checked(config_path: Path) -> None:
    """A file that is right with the flags, or for a stored study, is not refused for its own."""
    config_path.write_text("[training]\nsegments = 20000")
    assert read_config(config_path, {"steps": 50_000}).settings == {"segments": 20_000}
    assert read_config(config_path, stored=Settings(steps=30_000)).settings == {"segments": 20_000}
    with pytest.raises(InputError, match=r"study\.toml.*segments"):
        read_config(config_path)

    config_path.write_text("[training]\nsteps = 10\n")
    assert read_config(config_path, {"steps": 300}).settings == {"steps": 10}, "it is not used"

    config_path.write_text("[search]\nlanes = 2\n")
    with pytest.raises(InputError) as caught:
        read_config(config_path, {"steps": 10})
    assert "study.toml" not in str(caught.value), "an error of a flag alone"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[model]\nx = 1", "[model]"),
        ("steps = 100", "[steps]"),
        ("training = 100", "training must be a table"),
        ("[[training]]\nsteps = 1", "training must be a table"),
        ("[search]\nsteps = 100", "'steps' in [search]"),
        ("[training]\nsteps = 10.5", "10.5"),
        ("[training]\nsteps = 10", "steps"),
        ("[training]\nrecipe = []", "recipe"),
        ('[space]\noptimizer = { choices = ["sgd", "adam"] }', "learning_rate"),
        ("[space]\npatience = 3", "'patience'"),
        ("space = 3", "space must be a table"),
        ("[enqueue]\nseed = 1", "[[enqueue]]"),
        ("enqueue = [1]", "[[enqueue]]"),
        ("a = 1\na = 2", "TOML"),
        ("[training]\nsteps = " + "9" * 5000, "TOML"),
        ("a = " + "[" * 5000, "nested"),
    ],
)
def test_config_that_cannot_be_meant_is_refused(config_path: Path, text: str, named: str) -> None:
    """A misspelt key that was ignored would search something else than was asked for."""
    config_path.write_text(text)

    with pytest.raises(InputError) as caught:
        read_config(config_path)

    assert str(config_path) in str(caught.value)
    assert named in str(caught.value)


def test_config_of_another_editor_is_read(config_path: Path) -> None:
    """A byte-order mark and ends of lines with a carriage return mean nothing; UTF-16 is named."""
    text = "[training]\r\nsteps = 500\r\n"
    config_path.write_bytes(text.encode("utf-8-sig"))
    assert read_config(config_path).settings == {"steps": 500}
    config_path.write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match=r"UTF-16.*: iconv ") as caught:
        read_config(config_path)
    command, folder = str(caught.value).partition("convert it with: ")[2], config_path.parent
    assert subprocess.run(["sh", "-c", command], cwd=folder, check=False).returncode == 0
    [made] = set(folder.iterdir()) - {config_path}
    assert read_config(made).settings == {"steps": 500}


def test_config_that_is_no_text_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and other bytes than UTF-8 are named, each with its reason."""
    latin = tmp_path / "latin.toml"
    latin.write_bytes("[corpus] # é".encode("latin-1"))

    for path, reason in (
        (tmp_path / "none.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (latin, "TOML"),
        (tmp_path / "nul\0.toml", "null byte"),
    ):
        with pytest.raises(InputError, match=reason):
            read_config(path)


@given(lines=st.lists(LINES, max_size=8))
@example(lines=["[space]", "embedding_dim = " + "9" * 400])
@example(lines=["[search]", "seed = 0x" + "f" * 5000])
def test_any_text_gives_a_config_or_an_input_error(config_path: Path, lines: list[str]) -> None:
    """Whatever a person writes, the answer is a config that can be used or one line of help."""
    config_path.write_text("\n".join(lines), "utf-8", errors="surrogatepass")
    try:
        config = read_config(config_path)
        for point in config.enqueue:
            settle(config.settings).space.check_point(point)
    except InputError:
        return
    assert isinstance(config, Config)
    settings = settle(config.settings)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
