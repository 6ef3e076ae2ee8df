"""Optuna's storage is a view of the journal: whatever happens to it, it is made whole again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import optuna
import optuna_dashboard  # type: ignore[import-untyped]  # has no type hints
import pytest
from optuna.trial import TrialState

from mmsearch.errors import RefusedError
from mmsearch.search.optimizer.optuna_study import frozen_trial
from mmsearch.search.optimizer.optuna_view import OptunaView
from mmsearch.search.study.settings import Settings
from mmsearch.tracking.journal.journal import Journal
from tests.support.written_journals import Search

SETTINGS = Settings(sampler="random", steps=40, segments=4, patience=0)
SPACE = SETTINGS.space
ID = "an-id"
STATES = ("COMPLETE", "PRUNED", "FAIL", "COMPLETE", "RUNNING", "RUNNING")
Direction = Literal["minimize", "maximize"]


@pytest.fixture
def url(tmp_path: Path, empty_storage: Path) -> str:
    """Return the URL of a database without a study."""
    shutil.copy(empty_storage, tmp_path / "optuna.db")
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Return a search of six trials, the last two of which are running."""
    search = Search(SETTINGS, folder=tmp_path / "names")
    for number, state in enumerate(STATES):
        assert search.begin() == number
        for step in (10, 20, 30, 40) if state == "COMPLETE" else (10, 20):
            search.report(number, step, 3 - step / 100 - number / 10, is_last=True)
        if state != "RUNNING":
            search.end(number, state, reason="" if state == "COMPLETE" else f"it is {state}")
    return search


def view_of(url: str, name: str = "names", study_id: str = ID) -> OptunaView:
    """Make a view, as each process has one."""
    return OptunaView(url, name, study_id, SPACE)


def journal_of(search: Search) -> Journal:
    """Return a search's journal."""
    assert search.journal is not None
    return search.journal


def fill(search: Search, url: str) -> OptunaView:
    """Bring a storage up to date, as the next run does."""
    view, journal = view_of(url), journal_of(search)
    view.open()
    records = {record.number: record for record in journal.records()}
    for number in view.lacking([*records.values()]):
        view.show_trial(records[number], journal)
    return view


def trials_of(url: str) -> list[optuna.trial.FrozenTrial]:
    """Read the study as a person with plain Optuna does."""
    return optuna.load_study(study_name="names", storage=url).trials


def assert_same(search: Search, url: str) -> None:
    """Hold the storage's trials against the journal's."""
    records = journal_of(search).records()
    trials = trials_of(url)
    assert [trial.number for trial in trials] == [record.number for record in records]
    for trial, record in zip(trials, records, strict=True):
        wanted = frozen_trial(record, trial.distributions)
        for name in ("state", "value", "params", "user_attrs", "intermediate_values"):
            assert getattr(trial, name) == getattr(wanted, name), (trial.number, name)


def test_a_person_with_plain_optuna_finds_everything(search: Search, url: str) -> None:
    """Names, direction, states, scores, reasons and dev losses by step, of running trials too."""
    fill(search, url).close()

    assert_same(search, url)
    study = optuna.load_study(study_name="names", storage=url)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.best_trial.number == 3
    assert list(study.trials[0].params) == list(SPACE.dimensions)


def searched_apart(path: Path) -> None:
    """Put back an older copy, and go on in it with other trials of the same numbers."""
    shutil.copy(path.with_name("copy.db"), path)
    study = optuna.load_study(study_name="names", storage=f"sqlite:///{path}")
    for _ in range(4):
        trial = study.ask({"hidden_width": optuna.distributions.IntDistribution(1, 9, log=True)})
        study.tell(trial, 9.0)


def begun_by_0_1(path: Path) -> None:
    """Leave a trial that a killed process of version 0.1 had asked for and not written down."""
    study = optuna.load_study(study_name="names", storage=f"sqlite:///{path}")
    study.ask().suggest_int("hidden_width", 64, 512, log=True)


@pytest.mark.parametrize("damage", [Path.unlink, searched_apart, begun_by_0_1])
def test_storage_is_made_whole(
    search: Search, url: str, tmp_path: Path, empty_storage: Path, damage: Callable[[Path], None]
) -> None:
    """Replaced, deleted, or written to by others: the next run holds it to the journal again."""
    path = tmp_path / "optuna.db"
    shutil.copy(empty_storage, tmp_path / "copy.db")
    partly = Search(SETTINGS, folder=tmp_path / "names")
    for number in (2, 3, 4, 5):
        del partly.records[number]
    before = view_of(f"sqlite:///{tmp_path}/copy.db")
    before.open()
    for record in partly.records.values():
        before.show_trial(record, journal_of(search))
    before.close()
    fill(search, url).close()

    damage(path)
    for _ in range(2):
        fill(search, url).close()

    assert_same(search, url)
    assert [trial.state.name for trial in trials_of(url)] == list(STATES)


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """Return a trial as optuna-dashboard takes it."""
    return optuna.Trial(study, study.trials[number]._trial_id)


@pytest.mark.parametrize("is_killed", [False, True])
def test_study_that_is_written_anew_keeps_what_people_added(
    search: Search, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_killed: bool
) -> None:
    """Notes and trials that wait for their turn are not lost, by a kill neither."""
    fill(search, url).close()
    study = optuna.load_study(study_name="names", storage=url)
    study.set_user_attr("note", "of a person")
    optuna_dashboard.save_note(study, "of the study")
    optuna_dashboard.save_note(trial_of(study, 3), "of a trial")
    study.enqueue_trial({"hidden_width": 77}, user_attrs={"why": "a guess"})
    begun_by_0_1(tmp_path / "optuna.db")  # takes the enqueued one
    study.enqueue_trial({"hidden_width": 78}, user_attrs={"why": "another"})
    create, calls = optuna.storages.RDBStorage.create_new_trial, []

    def die(self: Any, study_id: int, template_trial: Any = None) -> int:
        calls.append(study_id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return create(self, study_id, template_trial)

    if is_killed:  # while the study is gone
        monkeypatch.setattr(optuna.storages.RDBStorage, "create_new_trial", die)
        with pytest.raises(KeyboardInterrupt):
            fill(search, url)
        monkeypatch.undo()
    for _ in range(2):
        view = fill(search, url)
        assert view.enqueued == [{"hidden_width": 78}]
        view.close()

    study = optuna.load_study(study_name="names", storage=url)
    assert study.user_attrs.items() >= {"note": "of a person", "mmsearch.id": ID}.items()
    assert [trial.state.name for trial in study.trials] == [*STATES, "WAITING"]
    assert study.trials[-1].user_attrs == {"why": "another"}
    assert optuna_dashboard.get_note(study) == "of the study"
    assert optuna_dashboard.get_note(trial_of(study, 3)) == "of a trial"
    assert optuna.get_all_study_names(url) == ["names"]


def test_enqueued_trial_is_taken_up_under_its_number(search: Search, url: str) -> None:
    """As from a dashboard; an interrupted trial waits too, and is not taken for an enqueued one."""
    view = fill(search, url)
    view.show_trial(search.records[4], journal_of(search), is_idle=True)
    view.close()
    assert trials_of(url)[4].state == TrialState.WAITING
    study = optuna.load_study(study_name="names", storage=url)
    study.enqueue_trial({"hidden_width": 77}, user_attrs={"why": "a guess"})
    study.enqueue_trial({})

    view = fill(search, url)
    assert view.enqueued == [{"hidden_width": 77}, {}]
    resumed = Search(SETTINGS, view.enqueued, folder=journal_of(search).folder)
    first, second = resumed.begin(), resumed.begin()
    for number in (first, second):
        view.show_trial(resumed.records[number], journal_of(search))

    assert resumed.point(first)["hidden_width"] == 77
    trials = trials_of(url)
    assert len(trials) == len(STATES) + 2
    assert trials[first].params == resumed.point(first)
    assert trials[first].user_attrs == {"why": "a guess"}
    assert [trials[n].state.name for n in (first, second)] == ["RUNNING", "RUNNING"]
    view.close()
    assert fill(resumed, url).enqueued == []


def test_trial_enqueued_during_a_search_waits_for_the_next(search: Search, url: str) -> None:
    """It has taken the next trial's number; the numbers of both stores stay the same."""
    view = fill(search, url)
    optuna.load_study(study_name="names", storage=url).enqueue_trial({"hidden_width": 77})

    for _ in range(2):
        number = search.begin()
        view.show_trial(search.records[number], journal_of(search))
    view.close()
    view = fill(search, url)

    trials = trials_of(url)
    for number in (6, 7):
        assert trials[number].params == search.point(number)
        assert trials[number].state == TrialState.RUNNING
    assert view.enqueued == [{"hidden_width": 77}]
    assert [trial.state for trial in trials[8:]] == [TrialState.WAITING]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("number", [2, 4])
def test_row_of_a_trial_whose_folder_is_gone_is_closed(
    search: Search, url: str, number: int, *, is_there: bool
) -> None:
    """Written before or not, ended or running: it is no trial to go on with, and keeps its row."""
    if is_there:
        fill(search, url).close()
    shutil.rmtree(journal_of(search).trial_folder(number))

    for _ in range(2):
        view = fill(search, url)
        assert view.enqueued == []
        view.close()

    trials = trials_of(url)
    assert len(trials) == len(STATES)
    assert trials[number].state == TrialState.FAIL
    assert trials[3].params == search.point(3)
    assert Search(SETTINGS, folder=journal_of(search).folder).begin() == len(STATES)


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("number", [1, 5])
def test_damaged_trial_keeps_its_row_and_no_other_out(
    search: Search, url: str, number: int, *, is_there: bool
) -> None:
    """One bad file costs its own trial at most, and for now, in an empty storage or a whole one."""
    if is_there:
        fill(search, url).close()
    journal = journal_of(search)
    path = journal.trial_folder(number) / "spec.json"
    content = path.read_bytes()
    path.write_bytes(b"{")
    good = [record for n, record in search.records.items() if n != number]

    view = view_of(url)
    view.open()
    for n in view.lacking(good, {number}):
        view.show_trial(search.records[n], journal)
    view.close()

    trials = trials_of(url)
    for record in search.records.values() if is_there else good:
        assert trials[record.number].params == search.point(record.number)
    path.write_bytes(content)
    fill(search, url).close()
    assert_same(search, url)


@pytest.mark.parametrize("is_filled", [False, True])
def test_study_of_another_workspace_is_refused(
    search: Search, url: str, *, is_filled: bool
) -> None:
    """From its first second on, two workspaces on one database do not share a study."""
    if is_filled:
        fill(search, url)
    else:
        view_of(url).open()

    with pytest.raises(RefusedError, match="'names' of another workspace"):
        view_of(url, study_id="another-id").open()

    fill(search, url)
    assert_same(search, url)
    view_of(url, name="cities", study_id="another-id").open()


@pytest.mark.parametrize(
    "directions", [["minimize"], ["maximize"], ["minimize", "minimize"]], ids=str
)
@pytest.mark.parametrize("n_trials", [0, 1])
def test_foreign_study_is_left_alone(
    url: str, tmp_path: Path, directions: list[Direction], n_trials: int
) -> None:
    """A study that somebody made with plain Optuna is theirs, with its own direction."""
    study = optuna.create_study(study_name="names", storage=url, directions=directions)
    for _ in range(n_trials):
        study.tell(study.ask(), [1.0] * len(directions))
    if directions == ["minimize"] and n_trials == 0:
        # What a process leaves that is killed between creating a study and naming it.
        view_of(url).open()
        assert study.user_attrs["mmsearch.id"] == ID
        return

    before = (tmp_path / "optuna.db").read_bytes()

    with pytest.raises(RefusedError, match="'names' not made by mmsearch"):
        view_of(url).open()

    assert (tmp_path / "optuna.db").read_bytes() == before
