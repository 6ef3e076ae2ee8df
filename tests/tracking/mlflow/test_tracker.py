"""A study in a real MLflow store: what is where, and how faults of the store are met."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient

from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.mlflow.charts import IMAGE_KEY, SCORE, read_scale, view_tag
from mmsearch.tracking.mlflow.client import PREFIX

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.mlflow.curve_axes import CurveScale
    from mmsearch.tracking.mlflow.tracker import StudyTracker
    from tests.support.tracked_study import NewStore, Study

Points = list[tuple[int, int, float]]
"""(step, timestamp in ms, value) of one metric, in order."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A study in a store, looked at with MLflow's own client, as anybody may."""

    study: Study
    uri: str
    folder: Path
    client: MlflowClient

    def tracker(self) -> StudyTracker:
        """Open a tracker that knows nothing yet, as each process does."""
        tracker = self.study.tracker(self.uri, self.folder / "artifacts")
        tracker.open()
        return tracker

    def show(self, *records: TrialRecord, is_idle: bool = False) -> None:
        """Show trials, by a process of their own; without any, all of the journal."""
        tracker = self.tracker()
        for record in records or self.study.journal.records():
            tracker.show_trial(record, self.study.journal, is_idle=is_idle)

    @property
    def experiment(self) -> Experiment:
        """The study's experiment."""
        found = self.client.get_experiment_by_name(PREFIX + self.study.facts.name)
        assert found is not None
        return found

    def runs(self, kind: str = "trial") -> list[Run]:
        """Find the runs of one kind, in the order of their trials."""
        found = self.client.search_runs([self.experiment.experiment_id], max_results=5000)
        chosen = [run for run in found if run.data.tags["mmsearch.kind"] == kind]
        return sorted(chosen, key=lambda run: int(run.data.tags.get("mmsearch.trial", "0")))

    @property
    def run(self) -> Run:
        """The only run of a trial."""
        [run] = self.runs()
        return run

    @property
    def parent(self) -> Run:
        """The only run of the study."""
        [run] = self.runs("study")
        return run

    def curves(self, run: Run) -> dict[str, Points]:
        """Read all points of a run."""
        return {
            key: sorted(
                (point.step, point.timestamp, point.value)
                for point in self.client.get_metric_history(run.info.run_id, key)
            )
            for key in run.data.metrics
        }

    def artifacts(self, run: Run, below: str = "") -> dict[str, bytes]:
        """Download all artifacts of a run."""
        found: dict[str, bytes] = {}
        for item in self.client.list_artifacts(run.info.run_id, below):
            if item.is_dir:
                found |= self.artifacts(run, item.path)
            else:
                local = self.client.download_artifacts(run.info.run_id, item.path, str(self.folder))
                found[item.path] = Path(local).read_bytes()
        return found

    def scale(self) -> CurveScale | None:
        """The axes of the saved view."""
        return read_scale(self.experiment.tags.get(view_tag(self.study.facts.id)[0]))


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a store in which each test has an experiment of its own."""
    return new_store.copy(tmp_path_factory.mktemp("store"))


@pytest.fixture
def shown(store: str, study: Study, tmp_path: Path) -> Shown:
    """Show the test's study in that store."""
    return Shown(study, store, tmp_path, MlflowClient(store))


def values(points: Points) -> list[tuple[int, float]]:
    return [(step, value) for step, _, value in points]


def expected_curves(record: TrialRecord) -> dict[str, Points]:
    """Return what a trial's curves must hold, from its record."""
    train = [(p, segment.ended_ms) for segment in record.curve for p in segment.train]
    return {
        "loss/train": [(step, when, loss) for (step, loss, _), when in train],
        "learning_rate": [(step, when, rate) for (step, _, rate), when in train],
        "loss/dev": [(s.step, s.ended_ms, s.dev_loss) for s in record.curve],
    }


def write_four(study: Study) -> list[TrialRecord]:
    """Write one trial of each state."""
    complete = study.complete(0, n_segments=3)
    study.begin(1)
    study.train(1)
    pruned = study.end(1, "PRUNED", reason="pruned at step 500 of 2000")
    study.begin(2)
    study.train(2)
    failed = study.end(2, "FAIL", reason="ValueError: é", error="Traceback: é\n")
    study.begin(3)
    return [complete, pruned, failed, study.train(3)]


def test_plain_client_finds_every_trial_by_the_promised_names(shown: Shown, study: Study) -> None:
    records = write_four(study)
    shown.show()

    children = shown.runs()

    assert [run.info.run_name for run in children] == [f"trial {n}" for n in range(4)]
    for run, record in zip(children, records, strict=True):
        tags = run.data.tags
        assert tags["mlflow.parentRunId"] == shown.parent.info.run_id
        assert tags["mmsearch.seed"] == str(1000 + record.number)
        assert tags["mmsearch.study"] == study.journal.name
        assert (tags["mmsearch.corpus"], tags["mmsearch.split"]) == ("c" * 64, "d" * 64)
        rate = record.spec.learning_rate
        expected = {**record.spec.to_json(), "log10_learning_rate": math.log10(rate)}
        assert run.data.params == {key: str(value) for key, value in expected.items()}
        assert expected_curves(record).items() <= shown.curves(run).items()
        assert run.info.start_time == record.facts["started_ms"]
        assert run.info.end_time == (record.outcome.ended_ms if record.outcome else None)
    notes = [child.data.tags.get("mlflow.note.content", "") for child in children]
    assert f"mmsearch replay 0 --study {study.journal.name}" in notes[0]
    assert "`embedding_dim`" in notes[0]
    assert "pruned at step 500 of 2000" in notes[1]
    assert "ValueError: é" in notes[2]
    assert notes[3] == "", "it runs"
    assert shown.artifacts(children[2]) == {"error.txt": "Traceback: é\n".encode()}
    assert shown.artifacts(children[1]) == {}


def test_single_values_of_a_run_agree_with_its_curve(shown: Shown, study: Study) -> None:
    """Without patience the score is the last dev loss, and not the best one."""
    write_four(study)
    study.begin(4)
    study.end(4, "FAIL", reason="its worker process died")
    study.begin(5, patience=1)
    for loss in (300.0, 300.0):
        study.train(5, dev_loss=loss)
    study.end(5, "COMPLETE")
    shown.show()

    complete, pruned, _, running, empty, lost = (run.data.metrics for run in shown.runs())

    dev = [line.dev_loss for line in study.live[0].curve]
    expected = {
        "dev_loss": dev[-1],
        "best_dev_loss": min(dev),
        "best_step": 1500,
        "bits_per_char": dev[-1] / math.log(2),
        "perplexity": math.exp(dev[-1]),
        "train_loss": study.live[0].curve[-1].train[-1][1],
        "n_parameters": 11_897,
        "wall_s": 0.75,
        "steps_per_s": 1500 / 0.75,
    }
    assert {key: complete[key] for key in expected} == pytest.approx(expected)
    assert pruned["dev_loss"] == study.live[1].dev_loss
    assert "dev_loss" not in running
    assert empty == {"n_parameters": 11_897, "wall_s": 0}
    assert set(lost) == {
        *("loss/dev", "loss/train", "learning_rate", "n_parameters", "wall_s", "steps_per_s")
    }, "no result, far worse than guessing"


LOSSES: tuple[dict[str, Any], ...] = (
    {"dev_loss": 2.5, "train_loss": 2.4},
    {"dev_loss": 2.2, "train_loss": 2.0, "dev_parts": {"in_train": 1.7, "not_in_train": 2.3}},
    {"dev_loss": 2.4, "train_loss": 1.5, "dev_parts": {"in_train": 1.3, "not_in_train": 2.6}},
)
"""Of a trial that overfits after its second evaluation."""


def test_train_and_dev_losses_are_of_the_same_weights(shown: Shown, study: Study) -> None:
    """Their distance is the overfitting; the minibatches have a curve of their own."""
    study.begin(0, patience=1)
    for losses in LOSSES:
        study.train(0, **losses)
    record = study.end(0, "COMPLETE")
    shown.show()

    metrics, held = shown.run.data.metrics, shown.curves(shown.run)

    steps = [line.step for line in record.curve]
    assert values(held["loss/train"]) == list(zip(steps, [2.4, 2.0, 1.5], strict=True))
    points = [point[:2] for line in record.curve for point in line.train]
    assert values(held["loss/batch"]) == points
    assert values(held["loss/dev_in_train"]) == list(zip(steps[1:], [1.7, 1.3], strict=True))
    assert values(held["loss/dev_not_in_train"]) == list(zip(steps[1:], [2.3, 2.6], strict=True))
    assert (metrics["dev_loss"], metrics["train_loss"], metrics[SCORE]) == (2.2, 2.0, 2.2)
    assert (metrics["dev_loss_in_train"], metrics["dev_loss_not_in_train"]) == (1.7, 2.3)
    assert metrics["best_step"] == steps[1]
    note = shown.run.data.tags["mlflow.note.content"].replace(" &emsp;", "")
    assert "| 2.0000 | 2.2000 | 1.7000 | 2.3000 |" in note


def test_trial_that_version_0_1_began_goes_on(shown: Shown, study: Study) -> None:
    """Its minibatches stay under `loss/train`, and no point is lost or doubled."""
    study.begin(0)
    shown.show(study.train(0))
    record = study.train(0, **LOSSES[1])
    for _ in range(2):
        shown.show(record)

    held = shown.curves(shown.run)

    old, new = ([point[:2] for point in line.train] for line in record.curve)
    assert values(held["loss/train"]) == [*old, (record.curve[1].step, 2.0)]
    assert values(held["loss/batch"]) == new


def test_saved_view_widens_with_the_curves_and_is_kept(shown: Shown, study: Study) -> None:
    tracker = shown.tracker()
    assert shown.scale() is None
    tracker.show_trial(study.complete(0, n_segments=4), study.journal)
    first = shown.scale()
    assert first is not None
    assert first.low < 2.35 < first.high
    tracker.show_trial(study.complete(1, n_segments=2), study.journal)
    both = shown.scale()
    assert both is not None
    assert (both.low, both.high > 2.61) == (first.low, True)
    shown.tracker()  # knows no trial yet
    assert shown.scale() == both
    key, _ = view_tag(study.facts.id)
    shown.client.set_experiment_tag(tracker.experiment_id, key, "of another format")
    shown.tracker().show_study(study.summary())
    assert shown.scale() == both


def test_complete_trial_has_its_model_and_figures(shown: Shown, study: Study) -> None:
    study.complete(0)
    shown.show()

    found = shown.artifacts(shown.run)

    # What the charts lay side by side: MLflow's names hold the time and chance, and there is one.
    images = {name for name in found if name.startswith(f"images/{IMAGE_KEY}+step+0+")}
    assert sorted(Path(name).suffix for name in images) == [".png", ".webp"]
    assert set(found) - images == {
        "figures/embedding.png",
        "figures/loss.png",
        "model/spec.json",
        "model/weights.safetensors",
        "samples.txt",
    }
    assert found["model/weights.safetensors"] == study.weights(0, 2)
    spec = study.journal.trial_folder(0) / "spec.json"
    assert found["model/spec.json"] == spec.read_bytes()
    assert found["samples.txt"] == "emma\nzoë\n".encode()
    for name, content in found.items():
        assert content.startswith(b"\x89PNG") or not name.endswith(".png")
        # A pickle of protocol 2 and later, and the zip that torch.save makes.
        assert not content.startswith((b"\x80", b"PK")), name


def test_parent_run_sums_the_study_up(shown: Shown, study: Study) -> None:
    write_four(study)
    study.complete(4)
    shown.show()
    summary, best = study.summary(is_done=False), study.live[0].dev_loss

    for _ in range(2):
        shown.tracker().show_study(summary)

    parent, experiment = shown.parent, shown.experiment
    assert parent.info.run_name == study.journal.name
    counts = {"n_complete": 2, "n_pruned": 1, "n_fail": 1}
    assert parent.data.metrics == {**counts, "best_dev_loss": best}
    assert {len(points) for points in shown.curves(parent).values()} == {1}
    assert parent.data.params == {k: str(v) for k, v in study.facts.params.items()}
    assert parent.data.tags["mmsearch.best_trial"] == "0"
    assert experiment.tags["mmsearch.study"] == study.journal.name
    note = experiment.tags["mlflow.note.content"]
    assert note == parent.data.tags["mlflow.note.content"]
    assert study.facts.description in note
    assert f"trial 0, dev loss {best:.4f}" in note
    figures = ("history", "importance", "parallel_coordinates", "trade_off")
    assert set(shown.artifacts(parent)) == {f"figures/{name}.png" for name in figures}


def test_status_and_state_of_a_study_say_the_same(shown: Shown, study: Study) -> None:
    """Also before the first trial."""

    def told() -> tuple[str, str]:
        return shown.parent.info.status, shown.parent.data.tags["mmsearch.state"]

    done, interrupted = study.summary(), dataclasses.replace(study.summary(), is_done=False)
    tracker = shown.tracker()
    assert told() == ("RUNNING", "RUNNING")
    tracker.show_study(dataclasses.replace(interrupted, importances=dict))
    assert told() == ("KILLED", "INTERRUPTED")
    assert shown.parent.data.metrics == {"n_complete": 0, "n_pruned": 0, "n_fail": 0}
    assert "mmsearch.best_trial" not in shown.parent.data.tags
    assert shown.artifacts(shown.parent) == {}
    shown.tracker().show_running()
    assert told() == ("RUNNING", "RUNNING")
    shown.tracker().show_study(done)
    assert told() == ("FINISHED", "COMPLETE")


def test_run_that_a_crash_left_without_params_gets_them(shown: Shown, study: Study) -> None:
    """A run is made in two calls, and the process or the server may die between them."""
    record = study.complete(0)
    location = (shown.folder / "artifacts").as_uri()
    experiment = shown.client.create_experiment(
        PREFIX + study.facts.name, artifact_location=location
    )
    ours = {"mmsearch.study": study.journal.name, "mmsearch.study_id": study.facts.id}
    parent = shown.client.create_run(experiment, tags={**ours, "mmsearch.kind": "study"})
    trial = {"mmsearch.kind": "trial", "mmsearch.trial": "0"}
    tags = {**ours, **trial, "mlflow.parentRunId": parent.info.run_id}
    shown.client.create_run(experiment, tags=tags)

    shown.show()

    assert set(shown.run.data.params) == {*record.spec.to_json(), "log10_learning_rate"}
    assert set(shown.parent.data.params) == set(study.facts.params)


def test_run_that_was_made_twice_is_there_once(shown: Shown, study: Study) -> None:
    """A slow server answers each call that was repeated; two processes may open a new study."""
    record = study.complete(0)
    shown.show(record)
    first = shown.parent.info.run_id
    for run in (shown.parent, shown.run):
        tags = {key: value for key, value in run.data.tags.items() if "mmsearch" in key}
        tags["mlflow.parentRunId"] = first
        for start_time in (run.info.start_time - 1, run.info.start_time + 1):
            shown.client.create_run(run.info.experiment_id, start_time=start_time, tags=tags)

    tracker = shown.tracker()
    tracker.show_trial(record, study.journal)
    tags = {key: value for key, value in tags.items() if key != "mmsearch.trial"}
    shown.client.create_run(tracker.experiment_id, tags={**tags, "mmsearch.kind": "study"})
    tracker.show_study(study.summary())

    assert (shown.run.info.status, shown.parent.info.status) == ("FINISHED", "FINISHED")
    assert shown.parent.info.run_id == first == shown.run.data.tags["mlflow.parentRunId"]
    assert shown.curves(shown.run).keys() > expected_curves(record).keys()


def test_curve_longer_than_one_call_takes_arrives_whole(shown: Shown, study: Study) -> None:
    """MLflow takes 1,000 metrics a call."""
    study.begin(0)
    for n_points in (499, 400, 350):
        study.train(0, n_points=n_points)
    record = study.end(0, "PRUNED")

    shown.show()

    expected = expected_curves(record)
    assert sum(map(len, expected.values())) > 2000
    assert expected.items() <= shown.curves(shown.run).items()


def test_trials_beyond_one_page_of_runs_are_found(
    shown: Shown, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsearch.tracking.mlflow.client.PAGE", 2)
    for number in range(5):
        study.begin(number, started_ms=1_700_000_000_000)
        study.end(number, "FAIL", reason="x")

    for _ in range(2):
        shown.show()

    assert [run.data.tags["mmsearch.trial"] for run in shown.runs()] == ["0", "1", "2", "3", "4"]
    assert shown.tracker().lacking(study.journal.records()) == []


def test_weights_that_are_not_the_trials_are_not_shown(shown: Shown, study: Study) -> None:
    """The model in MLflow is the one that has the score beside it."""
    study.complete(0)
    path = study.journal.weights_path(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # still safetensors
    path.write_bytes(content)

    with pytest.raises(JournalError, match="weights"):
        shown.show()

    assert shown.run.info.status == "RUNNING"
    assert shown.artifacts(shown.run) == {}
    path.write_bytes(study.weights(0, 2))
    shown.show()
    assert shown.run.info.status == "FINISHED"


def test_deleted_experiment_is_restored(shown: Shown, study: Study) -> None:
    """MLflow keeps a deleted name taken, and what it holds is whole again."""
    study.complete(0)
    shown.show()
    before = shown.run.info.run_id
    shown.client.delete_experiment(shown.experiment.experiment_id)

    tracker = shown.tracker()

    assert tracker.mended
    assert tracker.lacking(study.journal.records()) == []
    assert shown.run.info.run_id == before


def test_store_is_created_under_the_given_lock(new_store: NewStore) -> None:
    """Two first opens at once break MLflow's migration."""
    assert new_store.existed_at_lock is False
    assert new_store.existed_at_release is True


def test_nothing_is_left_in_the_current_folder(
    shown: Shown, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, MLflow puts databases and artifacts there."""
    here = shown.folder / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    study.complete(0)

    shown.show()
    shown.tracker().show_study(study.summary())

    assert not list(here.iterdir())
    assert list((shown.folder / "artifacts").rglob("loss.png"))
