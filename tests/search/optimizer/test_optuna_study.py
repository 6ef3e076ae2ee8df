"""The sampler and the pruner: a study rebuilt from its journal goes on as if undisturbed."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import settings as how_often
from hypothesis import strategies as st

from mmsearch.errors import InputError, MMSearchError
from mmsearch.search.optimizer.optuna_study import not_begun
from mmsearch.search.optimizer.samplers import distributions, make_sampler, trial_seed
from mmsearch.search.optimizer.storage import open_storage
from mmsearch.search.study.recipes import start_point
from mmsearch.search.study.settings import Pruner, Sampler, Settings
from mmsearch.search.study.space import Space
from tests.support.written_journals import Search

START = start_point(1_000)
Point = Mapping[str, Any]


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    """Keep the Gaussian process, which computes with torch, to one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def objective(point: Mapping[str, float]) -> float:
    """Score a point as if a model had been trained; lowest at 200 units and a rate of 0.2."""
    wide = math.log(point["hidden_width"] / 200)
    fast = math.log(point["learning_rate"] / 0.2)
    return 2 + wide**2 / 10 + fast**2 / 5 + 0.1 / point["block_size"]


def trained(search: Search, n_trials: int) -> list[Point]:
    """Ask, report and end trials, one after another; the points."""
    points: list[Point] = []
    for _ in range(n_trials):
        number = search.begin()
        points.append(search.point(number))
        search.report(number, 10, objective(points[-1]))
        search.end(number, "COMPLETE")
    return points


CHOSEN = {
    "embedding_dim": 10,
    "hidden_width": {"low": 64, "high": 256, "step": 64},
    "block_size": {"choices": [3, 5, 8]},
    "batch_size": {"choices": [32, 128]},
    "averaging": {"choices": ["polynomial", "none"]},
}
"""A space of a fixed value, steps and choices."""


@st.composite
def int_ranges(draw: st.DrawFn) -> Mapping[str, Any]:
    """Draw a range of whole numbers: fine or coarse, stepped, or logarithmic."""
    low, step = draw(st.integers(1, 100)), draw(st.integers(1, 9))
    high = low + step * draw(st.integers(1, 1_000))
    return {"low": low, "high": high} | draw(st.sampled_from([{"step": step}, {"log": True}]))


@how_often(max_examples=10, deadline=None)
@given(hidden=int_ranges(), embedding=int_ranges(), seed=st.integers(0, 99))
def test_proposals_are_of_the_space(
    hidden: Mapping[str, Any], embedding: Mapping[str, Any], seed: int
) -> None:
    """TPE proposes whole numbers within any range, on its steps, past its random start, too."""
    space = Space.parse({"hidden_width": hidden, "embedding_dim": embedding})
    for point in trained(Search(Settings(seed=seed, space=space)), 14):
        assert space.check_point(point) == point
        assert {type(point[name]) for name in ("hidden_width", "embedding_dim")} == {int}


def test_lowest_value_of_a_wide_range_is_not_proposed_more_often_than_the_best() -> None:
    """Near 1 the steps of a logarithmic range are wide, and TPE judges what it does not round."""
    others = {"embedding_dim": 10, "block_size": 3, "learning_rate": 0.1}
    unused = {"weight_decay": 0.0, "context_noise": 0.0}
    widths = {"low": 1, "high": 1000, "log": True}
    space = Space.parse({"hidden_width": widths, **others, **unused})
    study, proposed = optuna.create_study(), []
    for number in range(50):
        study.sampler = make_sampler(Settings(seed=0, space=space), number)
        trial = study.ask(distributions(space))
        proposed.append(trial.params["hidden_width"])
        study.tell(trial, abs(math.log(proposed[-1] / 3)))
    assert proposed[20:].count(1) < proposed[20:].count(3)


@pytest.mark.parametrize("sampler", get_args(Sampler))
@pytest.mark.parametrize("table", [{}, CHOSEN], ids=["ranges", "choices"])
def test_resumed_study_proposes_what_one_run_would_have(
    sampler: Sampler, table: Mapping[str, Any]
) -> None:
    """Past the random start of every sampler: the same proposals of the space, none twice."""
    settings = Settings(sampler=sampler, seed=5, space=Space.parse(table))
    one, two = Search(settings), Search(settings)

    in_one_go = trained(one, 13)
    resumed = trained(two, 11)
    two.rebuild()
    resumed += trained(two, 2)

    assert resumed == in_one_go
    assert len({tuple(point.values()) for point in in_one_go}) == 13
    assert one.proposer.study.best_value == round(min(map(objective, in_one_go)), 5)
    for point in in_one_go:
        assert settings.space.check_point(point) == point
        assert type(point["hidden_width"]) is int
    if table:
        assert {point["averaging"] for point in in_one_go} == {"polynomial", "none"}


@pytest.mark.parametrize(
    "table",
    [{}, CHOSEN, {"hidden_width": 64, "optimizer": {"choices": ["sgd", "adam"]}}],
)
def test_tpe_is_told_the_space_that_it_would_infer(table: Mapping[str, Any]) -> None:
    """The same distributions in the same order, so the same proposals."""
    settings = Settings(space=Space.parse(table))
    search = Search(settings)
    trained(search, 2)
    study = search.proposer.study
    trial = study.trials[-1]

    told = make_sampler(settings, 2).infer_relative_search_space(study, trial)

    inferred = optuna.samplers.TPESampler().infer_relative_search_space(study, trial)
    assert list(told.items()) == list(inferred.items())
    assert told


def test_start_point_comes_after_what_a_person_enqueued() -> None:
    """A value that the space does not hold is left to the sampler."""
    settings = Settings(space=Space.parse({"block_size": {"low": 2, "high": 4}}))
    queue = [{"hidden_width": 100}, *settings.start_points(1_000)]

    first, second = trained(Search(settings, queue), 2)

    assert first["hidden_width"] == 100
    assert {name: second[name] for name in START if name != "block_size"} == {
        name: value for name, value in START.items() if name != "block_size"
    }
    assert 2 <= second["block_size"] <= 4


def test_seeds_differ_between_studies_and_trials() -> None:
    """Studies of one space can be compared; 32 bits, so that JSON and any generator take them."""
    first, other = (trained(Search(Settings(seed=seed)), 1) for seed in (1, 2))
    assert first != other
    seeds = {trial_seed(study, number) for study in (0, 1, 2**64) for number in range(500)}
    assert len(seeds) == 1500
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_training_seed_of_the_settings_is_that_of_every_trial() -> None:
    """Trials then differ by their hyperparameters alone; what is proposed stays the same."""
    own, fixed = (Search(Settings(training_seed=seed)) for seed in (-1, 5))

    assert trained(own, 3) == trained(fixed, 3)
    assert {record.spec.seed for record in fixed.records.values()} == {5}
    assert len({record.spec.seed for record in own.records.values()}) == 3


def test_enqueueing_again_adds_nothing(tmp_path: Path) -> None:
    """The same command run again goes on; it does not try the same configurations again."""
    points: list[Point] = [
        {"hidden_width": 100, "learning_rate": 0.005},
        *({"hidden_width": 200}, {"hidden_width": 200}, {}),
    ]
    assert not_begun(points, []) == [points[0], points[1], points[3]]
    settings = Settings(steps=10, segments=1, patience=0)
    trained(Search(settings, points, tmp_path), 2)

    again = Search(settings, [*points, {"hidden_width": 300}], tmp_path)
    trained(again, 3)

    specs = [record.spec for record in again.records.values()]
    assert [spec.hidden_width for spec in specs[:2]] == [100, 200]
    assert specs[0].learning_rate == 0.005
    assert specs[3].hidden_width == 300
    assert len(specs) == 5
    # Records of version 0.1 do not say what was enqueued: their values do.
    old = dataclasses.replace(again.records[0], facts={"started_ms": 0, "n_parameters": 1})
    assert not_begun([{"hidden_width": 100}, {"hidden_width": 77}], [old]) == [{"hidden_width": 77}]


def test_enqueued_points_shift_no_seed() -> None:
    """What is drawn beside enqueued values follows from the trial's number, as everywhere."""
    settings = Settings(sampler="random", space=Space.parse({"weight_decay": 0.0}))
    plain = trained(Search(settings), 4)
    enqueued = Search(settings, [{}, {"weight_decay": 0.0}])

    points = trained(enqueued, 1)
    enqueued.rebuild()
    points += trained(enqueued, 3)

    assert points == plain


@pytest.mark.parametrize("n_workers", [1, 3])
def test_large_study_goes_on_as_if_undisturbed(
    monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    """The sampler learns from a part of a large study: the same part after a kill at any place."""
    monkeypatch.setattr("mmsearch.search.optimizer.optuna_study.BLOCK", 8)
    monkeypatch.setattr("mmsearch.search.optimizer.optuna_study.N_BEST", 3)
    settings = Settings(seed=3)
    one, killed = Search(settings), Search(settings)
    running: list[int] = []
    for _ in range(60):
        while len(running) < n_workers:
            running.append(one.begin())
            killed.rebuild()
            assert killed.begin() == running[-1]
            assert killed.point(running[-1]) == one.point(running[-1])
        number = running.pop(len(running) // 2)
        for search in (one, killed):
            search.report(number, 10, objective(search.point(number)), is_last=True)
            search.end(number, "FAIL" if number % 7 == 3 else "COMPLETE")


ENDS = {"none": [100] * 15, "median": [100] * 5 + [5] * 10, "halving": [100] + [10] * 14}
"""Steps at which ever worse trials end; those of hyperband depend on its brackets."""


@pytest.mark.parametrize("pruner", get_args(Pruner))
def test_pruner_ends_worse_trials_where_it_looks(pruner: Pruner) -> None:
    """The median looks once there are five trials, halving first at a tenth of the steps."""
    search = Search(Settings(sampler="random", pruner=pruner, steps=100, segments=20))
    ends = []
    for badness in range(15):
        number, step, is_pruned = search.begin(), 0, False
        while step < 100 and not is_pruned:
            step += 5
            is_pruned = search.report(number, step, 2.0 + badness + 1 / step, is_last=step == 100)
        search.end(number, "PRUNED" if is_pruned else "COMPLETE")
        ends.append(step)

    assert ends == ENDS.get(pruner, ends)
    assert (min(ends) < max(ends) == ends[0] == 100) or pruner == "none"
    assert search.proposer.study.best_trial.number == 0


@pytest.mark.parametrize("pruner", get_args(Pruner))
@how_often(max_examples=10)
@given(data=st.data())
def test_rebuilt_study_prunes_as_if_undisturbed(pruner: Pruner, data: st.DataObject) -> None:
    """Killed after any report, three trials at once: each decision is that of one process."""
    settings = Settings(sampler="random", pruner=pruner, steps=160, segments=16)
    one, killed = Search(settings), Search(settings)
    losses = itertools.cycle(data.draw(st.lists(st.floats(1, 4), min_size=5, max_size=40)))
    kills = data.draw(st.sets(st.integers(0, 60), max_size=8))
    running: dict[int, int] = {}
    for event in range(60):
        if event in kills:
            killed.rebuild()
        if len(running) < 3:
            number = one.begin()
            assert killed.begin() == number
            running[number] = 0
        number = data.draw(st.sampled_from(sorted(running)))
        running[number] += 10
        loss = next(losses)
        decisions = [
            search.report(number, running[number], loss, is_last=running[number] == 160)
            for search in (one, killed)
        ]
        assert decisions[0] == decisions[1]
        if decisions[0] or running[number] == 160:
            del running[number]
            for search in (one, killed):
                search.end(number, "PRUNED" if decisions[0] else "COMPLETE")


@pytest.mark.parametrize(
    "url", ["", "optuna.db", "sqlite://", "sqlite:///:memory:", "nonsense://a/b"]
)
def test_storage_that_keeps_nothing_is_bad_input(url: str) -> None:
    """A search that cannot go on after a crash is refused before it begins."""
    with pytest.raises(InputError):
        open_storage(url)


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """A wrong path is told as such, and the file is left as it is."""
    path = tmp_path / "words.txt"
    path.write_text("emma\n" * 1000)

    for url in (
        f"sqlite:///{path}",
        f"sqlite:///{tmp_path}/none/optuna.db",
        f"sqlite:///{tmp_path}",
    ):
        with pytest.raises(MMSearchError, match="cannot be opened") as caught:
            open_storage(url)
        assert url in str(caught.value)
    assert path.read_text() == "emma\n" * 1000
