"""Optuna's side of a study: resumed it proposes what it would have, and it takes no other's."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import optuna
import pytest
import torch
from optuna.trial import TrialState

from mmsearch.errors import InputError, MMSearchError, RefusedError
from mmsearch.search.places import storage_url
from mmsearch.search.recipes import start_point
from mmsearch.search.settings import Pruner, Sampler, Settings
from mmsearch.search.space import Range, Space
from mmsearch.search.storage import open_storage
from mmsearch.search.study import StudyHandle, make_sampler, trial_seed
from mmsearch.search.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

START = start_point(1_000)
ID = "an-id"
Point = Mapping[str, Any]
Direction = Literal["minimize", "maximize"]


class Places:
    """Databases of one test."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self._folder = folder
        self._empty = empty

    def open(self, settings: Settings | None = None, **changes: Any) -> StudyHandle:
        """Open a study as a new process would, with storage of its own."""
        arguments: dict[str, Any] = {"database": "a", "name": "names", "id": ID, **changes}
        return StudyHandle.open(
            open_storage(self.url(arguments["database"])),
            arguments["name"],
            arguments["id"],
            settings or Settings(),
            must_exist=arguments.get("must_exist", False),
        )

    def url(self, database: str = "a") -> str:
        """Name a database."""
        workspace = Workspace.at(self._folder / database)
        if not workspace.root.exists():
            workspace.create()
            shutil.copy(self._empty, workspace.root / "optuna.db")
        return storage_url(workspace, None, None)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tables once: that takes as long as twenty trials."""
    path = tmp_path_factory.mktemp("optuna") / "optuna.db"
    open_storage(f"sqlite:///{path}").engine.dispose()
    return path


@pytest.fixture
def places(tmp_path: Path, empty_database: Path) -> Places:
    """Give an empty folder for databases."""
    return Places(tmp_path, empty_database)


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


def search(handle: StudyHandle, n_trials: int) -> list[Point]:
    """Ask, report and tell trials, one after another."""
    points = []
    for _ in range(n_trials):
        asked = handle.ask()
        number, point = asked.number, asked.point
        loss = objective(point)
        handle.report(number, 10, loss)
        handle.tell(number, "COMPLETE", loss)
        points.append(point)
    return points


def unfinished(places: Places, parameters: Sequence[str]) -> int:
    """Begin a trial as a process that is killed while it draws that many parameters."""
    handle = places.open()
    handle.study.sampler = make_sampler(Settings(), len(handle.study.trials))
    trial = handle.study.ask()
    for name in parameters:
        dimension = Settings().space.dimensions[name]
        assert isinstance(dimension, Range)
        low, high = dimension.low, dimension.high
        if dimension.is_int:
            trial.suggest_int(name, int(low), int(high), log=dimension.log)
        else:
            trial.suggest_float(name, low, high, log=dimension.log)
    return trial.number


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_resumed_study_proposes_what_one_run_would_have(places: Places, sampler: Sampler) -> None:
    """24 trials in one go, or 8 + 8 + 8 in three processes: the same proposals, none twice."""
    settings = Settings(sampler=sampler, seed=5)
    one = places.open(settings, database="one")
    in_one_go = search(one, 24)

    in_three: list[Point] = []
    for _ in range(3):
        in_three += search(places.open(settings, database="three"), 8)

    assert in_three == in_one_go
    assert len({tuple(point.values()) for point in in_one_go}) == 24
    assert one.study.best_value == min(objective(point) for point in in_one_go)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"hidden_width": 64, "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True}},
        {"block_size": {"low": 2, "high": 3}, "learning_rate": {"low": 0.1, "high": 0.2}},
        {"optimizer": {"choices": ["sgd", "adam"]}, "batch_size": {"choices": [32, 128]}},
        {"hidden_width": {"low": 64, "high": 256, "step": 64}, "block_size": {"choices": [3, 5]}},
    ],
)
def test_tpe_is_told_the_space_that_it_would_infer(
    places: Places, table: Mapping[str, Any]
) -> None:
    """The same distributions in the same order, so the same proposals."""
    settings = Settings(space=Space.parse(table))
    handle = places.open(settings)
    search(handle, 2)
    study, trial = handle.study, handle.study.trials[-1]

    told = make_sampler(settings, 2).infer_relative_search_space(study, trial)

    inferred = optuna.samplers.TPESampler().infer_relative_search_space(study, trial)
    assert list(told.items()) == list(inferred.items())
    assert told


CHOSEN = {
    "hidden_width": {"low": 64, "high": 256, "step": 64},
    "block_size": {"choices": [3, 5, 8]},
    "batch_size": {"choices": [32, 128]},
    "averaging": {"choices": ["polynomial", "none"]},
}
"""A space of steps and choices."""


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_steps_and_choices_are_proposed_and_go_on(places: Places, sampler: Sampler) -> None:
    """Every sampler keeps to them, and a resumed study proposes what an undisturbed one had."""
    settings = Settings(sampler=sampler, space=Space.parse(CHOSEN))
    one = search(places.open(settings, database="one"), 14)
    two = search(places.open(settings, database="two"), 7)
    two += search(places.open(settings, database="two"), 7)

    for point in one:
        assert settings.space.check_point(point) == point
        assert settings.trial_spec(point, seed=0).averaging == point["averaging"]
    assert {point["averaging"] for point in one} == {"polynomial", "none"}
    assert two == one


def test_start_point_comes_after_what_a_person_enqueued(places: Places) -> None:
    """A value that the space does not hold is left to the sampler."""
    settings = Settings(space=Space.parse({"block_size": {"low": 2, "high": 4}}))
    handle = places.open(settings)
    handle.enqueue([{"hidden_width": 100}, *settings.start_points(1_000)])

    first, second = search(handle, 2)

    assert first["hidden_width"] == 100
    assert {name: second[name] for name in START if name != "block_size"} == {
        name: value for name, value in START.items() if name != "block_size"
    }
    assert 2 <= second["block_size"] <= 4


def test_another_seed_is_another_study(places: Places) -> None:
    """Two studies of one space can be compared only if their seeds make them differ."""
    first, other = (
        search(places.open(Settings(seed=seed), database=f"seed-{seed}"), 1) for seed in (1, 2)
    )

    assert first != other


def test_every_trial_has_a_training_seed_of_its_own() -> None:
    """32 bits, so that JSON and any generator take it, and no two trials of a study alike."""
    seeds = {
        trial_seed(study_seed, number) for study_seed in (0, 1, 2**64) for number in range(500)
    }

    assert len(seeds) == 1500
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_fixed_dimensions_are_in_the_params(places: Places) -> None:
    """A person with plain Optuna reads every hyperparameter, the ones not searched too."""
    space = Space.parse({"hidden_width": 64, "learning_rate": 0.1, "weight_decay": 1e-4})
    handle = places.open(Settings(space=space))

    point = handle.ask().point

    params = places.open().study.trials[0].params
    assert params == point
    assert list(params) == list(space.dimensions)
    assert (params["hidden_width"], params["learning_rate"]) == (64, 0.1)
    assert params["weight_decay"] == 1e-4


def test_a_person_with_plain_optuna_finds_everything(places: Places) -> None:
    """Names, direction, states, scores and dev losses by step are those that the design gives."""
    handle = places.open()
    [point] = search(handle, 1)
    number = handle.ask().number
    handle.report(number, 10, 3.5)
    handle.tell(number, "PRUNED")
    number = handle.ask().number
    handle.tell(number, "FAIL", reason="diverged")

    study = optuna.load_study(study_name="names", storage=places.url())

    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    complete, pruned, failed = study.trials
    assert complete.params == point
    assert complete.value == objective(point)
    assert complete.intermediate_values == {10: objective(point)}
    assert pruned.intermediate_values == {10: 3.5}
    assert failed.value is None
    assert failed.user_attrs["mmsearch.reason"] == "diverged"
    assert handle.counts() == {"COMPLETE": 1, "PRUNED": 1, "FAIL": 1}
    assert handle.running() == []


def test_enqueueing_again_adds_nothing(places: Places) -> None:
    """The same command run again goes on; it does not try the same configurations again."""
    points: list[Point] = [
        {"hidden_width": 100, "learning_rate": 0.005},
        {"hidden_width": 200},
        {"hidden_width": 200},
        {},
    ]
    handle = places.open()
    handle.enqueue(points)
    handle.enqueue(points)
    assert len(handle.study.trials) == 3
    search(handle, 2)

    again = places.open()
    again.enqueue([*points, {"hidden_width": 300}])
    search(again, 3)

    trials = again.study.trials
    assert len(trials) == 5
    assert trials[0].params["hidden_width"] == 100
    assert trials[0].params["learning_rate"] == 0.005
    assert [trial.params["hidden_width"] for trial in trials[:2]] == [100, 200]
    assert trials[3].params["hidden_width"] == 300


def test_enqueued_points_shift_no_seed(places: Places) -> None:
    """What is drawn beside enqueued values follows from the trial's number, as everywhere."""
    settings = Settings(sampler="random", space=Space.parse({"weight_decay": 0.0}))
    plain = search(places.open(settings, database="plain"), 4)
    handle = places.open(settings, database="enqueued")
    handle.enqueue([{}, {"weight_decay": 0.0}])
    begun = handle.ask().number
    handle.tell(begun, "COMPLETE", 1.0)

    points = search(places.open(settings, database="enqueued"), 3)

    assert points == plain[1:]
    assert places.open(settings, database="enqueued").study.trials[0].params == plain[0]


@pytest.mark.parametrize(
    "drawn",
    [
        [],
        ["embedding_dim", "hidden_width", "block_size"],
        list(Space().dimensions),
    ],
)
def test_trial_of_a_killed_process_is_carried_on(places: Places, drawn: list[str]) -> None:
    """Killed while it drew, a trial keeps what it had and gets the rest; it is not left RUNNING."""
    undisturbed = search(places.open(database="b"), 3)
    search(places.open(), 2)
    number = unfinished(places, drawn)
    before = places.open().study.trials[number].params
    assert list(before) == drawn

    handle = places.open()
    assert handle.running() == [number]
    point = handle.attach(number).point

    assert list(point) == list(Space().dimensions)
    assert {name: point[name] for name in drawn} == before
    if drawn == list(Space().dimensions)[: len(drawn)]:  # as a search draws
        assert point == undisturbed[2]
    assert all(d.holds(point[name]) for name, d in Space().dimensions.items())
    assert handle.study.trials[number].params == point
    handle.report(number, 10, 2.5)
    handle.tell(number, "COMPLETE", 2.5)
    assert handle.running() == []
    assert handle.study.trials[number].value == 2.5


def test_trial_that_had_drawn_nothing_gets_what_it_would_have(places: Places) -> None:
    """Killed between asking and drawing, a study goes on as if nothing had happened."""
    undisturbed = search(places.open(database="b"), 3)
    search(places.open(), 2)

    assert places.open().attach(unfinished(places, [])).point == undisturbed[2]


def test_attaching_a_whole_trial_changes_nothing(places: Places) -> None:
    """A trial carried on from its checkpoint is trained with the hyperparameters it began with."""
    handle = places.open()
    asked = handle.ask()
    number, point = asked.number, asked.point
    handle.report(number, 10, 3.0)

    again = places.open()
    assert again.attach(number).point == point
    again.report(number, 10, 99.0)
    again.report(number, 20, 2.0)

    assert again.study.trials[number].intermediate_values == {10: 3.0, 20: 2.0}


def test_reporting_or_telling_twice_is_harmless(places: Places) -> None:
    """What a killed process had already reported is reported again by the next one."""
    handle = places.open()
    number = handle.ask().number
    for loss in (3.0, 3.0, 99.0):
        handle.report(number, 10, loss)
    handle.tell(number, "COMPLETE", 3.0)
    handle.tell(number, "FAIL")
    places.open().tell(number, "PRUNED")

    [trial] = places.open().study.trials
    assert trial.intermediate_values == {10: 3.0}
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 3.0)


def test_study_of_another_id_is_refused(places: Places) -> None:
    """Two workspaces on one database must not search one study with two sets of words."""
    search(places.open(), 1)

    with pytest.raises(RefusedError, match="'names' of another workspace"):
        places.open(id="another-id")
    assert len(places.open().study.trials) == 1
    assert places.open(name="cities", id="another-id").counts()["COMPLETE"] == 0


@pytest.mark.parametrize(
    "directions", [["minimize"], ["maximize"], ["minimize", "minimize"]], ids=str
)
@pytest.mark.parametrize("n_trials", [0, 1])
def test_foreign_study_is_left_alone(
    places: Places, directions: list[Direction], n_trials: int
) -> None:
    """A study that somebody made with plain Optuna is theirs, with its own direction."""
    study = optuna.create_study(
        study_name="names", storage=open_storage(places.url()), directions=directions
    )
    for _ in range(n_trials):
        study.tell(study.ask(), [1.0] * len(directions))
    if directions == ["minimize"] and n_trials == 0:
        # What a process leaves that is killed between creating a study and naming it.
        assert places.open().study.user_attrs == {"mmsearch.id": ID}
        return

    with pytest.raises(RefusedError, match="'names' not made by mmsearch"):
        places.open()

    assert study.user_attrs == {}
    assert len(study.trials) == n_trials


def test_missing_study_is_not_begun_anew(places: Places) -> None:
    """With trials in the workspace, an empty database is the wrong one."""
    with pytest.raises(RefusedError, match=r"no such study; .*--storage"):
        places.open(must_exist=True)

    search(places.open(), 1)
    assert places.open(must_exist=True).counts()["COMPLETE"] == 1


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_every_sampler_runs(places: Places, sampler: Sampler) -> None:
    """15 trials are past every sampler's random start; none needs a package we do not have."""
    space = Space.parse({"embedding_dim": 10, "block_size": 3})
    handle = places.open(Settings(sampler=sampler, space=space))

    points = search(handle, 15)

    assert len({tuple(point.values()) for point in points}) == 15
    assert handle.counts() == {"COMPLETE": 15, "PRUNED": 0, "FAIL": 0}
    for point in points:
        for name, dimension in space.dimensions.items():
            assert dimension.holds(point[name])
            assert isinstance(dimension, Range)
            assert isinstance(point[name], int) == dimension.is_int


@pytest.mark.parametrize("pruner", get_args(Pruner))
def test_every_pruner_runs(places: Places, pruner: Pruner) -> None:
    """Ever worse trials are ended early by every pruner, and by none at all without one."""
    settings = Settings(sampler="random", pruner=pruner, steps=60, segments=6)
    handle = places.open(settings)
    for badness in range(15):
        number = handle.ask().number
        state = "COMPLETE"
        for step in range(10, 61, 10):
            handle.report(number, step, 2.0 + badness + 1 / step)
            if step < 60 and handle.should_prune(number):
                state = "PRUNED"
                break
        handle.tell(number, state, 2.0 + badness)

    counts = handle.counts()

    assert counts["COMPLETE"] + counts["PRUNED"] == 15
    assert counts["COMPLETE"] >= 1
    assert (counts["PRUNED"] > 0) == (pruner != "none")
    assert handle.study.best_trial.number == 0


def test_first_trials_are_not_pruned_by_the_median(places: Places) -> None:
    """A median of fewer than five trials says too little; after them every report counts."""
    handle = places.open(Settings(sampler="random", pruner="median", steps=100, segments=10))
    for badness in range(7):
        number = handle.ask().number
        handle.report(number, 10, 2.0 + badness)
        assert handle.should_prune(number) == (badness >= 5)
        handle.tell(number, "COMPLETE", 2.0 + badness)


def test_halving_looks_at_a_tenth_and_doubles(places: Places) -> None:
    """At 10, 20, 40 and 80 % of the steps the better half goes on, and nobody ends between."""
    handle = places.open(Settings(sampler="random", pruner="halving", steps=100, segments=20))
    for badness in range(2):
        number = handle.ask().number
        for step in range(5, 101, 5):
            handle.report(number, step, 2.0 + badness)
            pruned = handle.should_prune(number)
            assert pruned == (badness == 1 and step >= 10)
            if pruned:
                break
        assert step == (10 if badness else 100)
        handle.tell(number, "PRUNED" if pruned else "COMPLETE", 2.0 + badness)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sesame@127.0.0.1:1/db",
        "postgresql://u:ses/ame@127.0.0.1:1/db",
        "postgresql://u@corp:sesame@127.0.0.1:1/db",
        "postgresql://u:x@sesame@127.0.0.1:1/db",
        "postgresql://u@127.0.0.1:1/db?password=sesame",
        "mysql+pymysql://u:sesame@127.0.0.1:1/db",
        "nonsense://u:sesame@127.0.0.1/db",
        "sqlite://u:sesame@127.0.0.1/db",
        "postgresql://u:sesame@127.0.0.1:port/db",
        "u:sesame@127.0.0.1/db",
    ],
)
def test_storage_that_cannot_be_opened_hides_its_password(url: str) -> None:
    """The message goes to a terminal and into logs, and says what is wrong without the password."""
    with pytest.raises(MMSearchError) as caught:
        open_storage(url)

    assert "storage" in str(caught.value)
    # The system's own words for a host that is none hold these letters, too.
    assert "ame" not in str(caught.value).replace("Name or service not known", "")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not a database URL"),
        ("optuna.db", "not a database URL"),
        ("sqlite://", "end with this process"),
        ("sqlite:///:memory:", "end with this process"),
    ],
)
def test_storage_that_keeps_nothing_is_bad_input(url: str, message: str) -> None:
    """A search that cannot go on after a crash is refused before it begins."""
    with pytest.raises(InputError, match=message):
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


def test_sqlite_is_opened_for_two_processes(places: Places) -> None:
    """A write-ahead log lets a person look at a study while it is searched."""
    storage = open_storage(places.url())

    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        # The writer waits for this one's transaction; the reader waits for nobody.
        reader = optuna.storages.RDBStorage(places.url())
        assert reader.get_all_studies() == []
