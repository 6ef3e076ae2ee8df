"""Search spaces and settings, drawn by hypothesis."""

from typing import Any, get_args

from hypothesis import strategies as st

from mmsearch.search.study.recipes import RANGES
from mmsearch.search.study.settings import Pruner, Sampler, Settings, settle
from mmsearch.search.study.space import HYPERPARAMETERS, TRAINING

NAMES = st.sampled_from([*HYPERPARAMETERS, *TRAINING])


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


@st.composite
def good_settings(draw: st.DrawFn) -> Settings:
    """Draw settings that a study may have, some at their defaults."""
    keys = {
        "steps": st.integers(20, 10**9),
        "batch_size": st.integers(1, 10**6),
        "seed": st.integers(0, 2**64),
        "training_seed": st.integers(-1, 2**32),
        "sampler": st.sampled_from(get_args(Sampler)),
        "pruner": st.sampled_from(get_args(Pruner)),
        "optimizer": st.sampled_from(["sgd", "adam"]),
        "averaging": st.sampled_from(["none", "polynomial"]),
        "keep_duplicates": st.booleans(),
        "start": st.booleans(),
        "recipe": st.sampled_from(["default", "article"]),
    }
    given = draw(st.fixed_dictionaries({}, optional=keys))
    space = draw(good_tables())
    if "optimizer" in space:  # then the ranges that depend on it have no default
        space = {**RANGES[draw(keys["optimizer"])], **space}
    return settle({**given, "space": space})
