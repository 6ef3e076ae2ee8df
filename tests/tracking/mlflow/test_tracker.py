"""A study in a real MLflow store: all of it under the promised names, and each thing once."""

from __future__ import annotations

import dataclasses
import math
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from mmsearch.errors import MMSearchError
from mmsearch.tracking.journal.files import JournalError
from mmsearch.tracking.mlflow.client import PREFIX, first_line
from mmsearch.tracking.mlflow.saved_view import IMAGE_KEY, SCORE, read_scale, view_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from mlflow.entities import Run

    from mmsearch.tracking.journal.records import TrialRecord
    from mmsearch.tracking.mlflow.curve_axes import CurveScale
    from mmsearch.tracking.mlflow.tracker import StudyTracker
    from tests.support.tracked_study import NewStore, Study

T1_MS = 1_800_000_000_000

Points = list[tuple[int, int, float]]
"""(step, timestamp in ms, value) of one metric, in order."""


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a store in which each test has an experiment of its own."""
    return new_store.copy(tmp_path_factory.mktemp("store"))


@pytest.fixture
def client(store: str) -> MlflowClient:
    """Look into the store with MLflow's own client, as anybody may."""
    from mlflow import MlflowClient  # noqa: PLC0415 (after telemetry was turned off)

    return MlflowClient(tracking_uri=store)


@pytest.fixture
def open_tracker(store: str, study: Study, tmp_path: Path) -> Callable[[], StudyTracker]:
    """Open a tracker that knows nothing yet, as each process does."""

    def make() -> StudyTracker:
        tracker = study.tracker(store, tmp_path / "artifacts")
        tracker.open()
        return tracker

    return make


def runs(client: MlflowClient, study: Study, kind: str) -> list[Run]:
    """Find a study's runs of one kind, in the order of their trials."""
    experiment = client.get_experiment_by_name(f"mmsearch/{study.journal.name}")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=5000)
    chosen = [run for run in found if run.data.tags["mmsearch.kind"] == kind]
    return sorted(chosen, key=lambda run: int(run.data.tags.get("mmsearch.trial", "0")))


def curves(client: MlflowClient, run: Run) -> dict[str, Points]:
    """Read all points that a run holds."""
    return {
        key: sorted(
            (point.step, point.timestamp, point.value)
            for point in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }


def artifacts(client: MlflowClient, run: Run, folder: Path, below: str = "") -> dict[str, bytes]:
    """Download all artifacts of a run."""
    found: dict[str, bytes] = {}
    for item in client.list_artifacts(run.info.run_id, below):
        if item.is_dir:
            found |= artifacts(client, run, folder, item.path)
        else:
            local = client.download_artifacts(run.info.run_id, item.path, str(folder))
            found[item.path] = Path(local).read_bytes()
    return found


def everything(client: MlflowClient, study: Study, folder: Path) -> list[Any]:
    """Read all that MLflow holds of a study, but for when its parent was last touched."""
    experiment = client.get_experiment_by_name(f"mmsearch/{study.journal.name}")
    assert experiment is not None
    return [
        dict(experiment.tags),
        *(
            (
                run.info.run_id,
                run.info.run_name,
                run.info.status,
                (run.info.start_time, run.info.end_time) if kind == "trial" else None,
                run.data.tags,
                run.data.params,
                curves(client, run),
                artifacts(client, run, folder),
            )
            for kind in ("study", "trial")
            for run in runs(client, study, kind)
        ),
    ]


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


def show_four(tracker: StudyTracker, study: Study) -> None:
    """Show them, and the study."""
    for record in study.journal.records():
        tracker.show_trial(record, study.journal)
    tracker.show_study(study.summary(is_done=False))


# What stands where.


def test_client_finds_every_trial_by_the_promised_names(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    records = write_four(study)
    show_four(open_tracker(), study)

    (parent,) = runs(client, study, "study")
    children = runs(client, study, "trial")

    assert [run.info.status for run in children] == ["FINISHED", "KILLED", "FAILED", "RUNNING"]
    assert [run.info.run_name for run in children] == [f"trial {n}" for n in range(4)]
    for run, record in zip(children, records, strict=True):
        tags = run.data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["mmsearch.trial"] == str(record.number)
        assert tags["mmsearch.state"] == record.state
        assert tags["mmsearch.seed"] == str(1000 + record.number)
        assert tags["mmsearch.study"] == study.journal.name
        assert (tags["mmsearch.corpus"], tags["mmsearch.split"]) == ("c" * 64, "d" * 64)
        rate = record.spec.learning_rate
        expected = {**record.spec.to_json(), "log10_learning_rate": math.log10(rate)}
        assert run.data.params == {key: str(value) for key, value in expected.items()}
        held = curves(client, run)
        assert {key: held[key] for key in expected_curves(record)} == expected_curves(record)
        assert run.info.start_time == record.facts["started_ms"]
        assert run.info.end_time == (record.outcome.ended_ms if record.outcome else None)
    notes = [child.data.tags.get("mlflow.note.content", "") for child in children]
    assert f"mmsearch replay 0 --study {study.journal.name}" in notes[0]
    assert "\n| `embedding_dim` &emsp; | `hidden_width` &emsp; | " in notes[0]
    assert "    pruned at step 500 of 2000" in notes[1]
    assert "    ValueError: é" in notes[2]
    assert notes[3] == "", "it runs"
    assert "mmsearch.reason" not in children[0].data.tags
    assert children[1].data.tags["mmsearch.reason"] == "pruned at step 500 of 2000"
    assert children[2].data.tags["mmsearch.reason"] == "ValueError: é"
    assert artifacts(client, children[2], tmp_path) == {"error.txt": "Traceback: é\n".encode()}
    assert artifacts(client, children[1], tmp_path) == {}


def test_single_values_agree_with_the_curve(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    write_four(study)
    study.begin(4)
    study.end(4, "FAIL", reason="its worker process died")
    show_four(open_tracker(), study)
    complete, pruned, _, running, empty = runs(client, study, "trial")

    metrics = complete.data.metrics
    dev = [point[2] for point in expected_curves(study.live[0])["loss/dev"]]
    assert metrics["dev_loss"] == dev[-1]
    assert (metrics["best_dev_loss"], metrics["best_step"]) == (min(dev), 1500)
    assert metrics["bits_per_char"] == pytest.approx(dev[-1] / math.log(2))
    assert metrics["perplexity"] == pytest.approx(math.exp(dev[-1]))
    assert metrics["train_loss"] == study.live[0].curve[-1].train[-1][1]
    assert (metrics["n_parameters"], metrics["wall_s"]) == (11_897, 0.75)
    assert metrics["steps_per_s"] == 1500 / 0.75
    assert pruned.data.metrics["dev_loss"] == study.live[1].dev_loss
    assert "dev_loss" not in running.data.metrics
    assert empty.data.metrics == {"n_parameters": 11_897, "wall_s": 0}


LOSSES: tuple[dict[str, Any], ...] = (
    {"dev_loss": 2.5, "train_loss": 2.4},
    {"dev_loss": 2.2, "train_loss": 2.0, "dev_parts": {"in_train": 1.7, "not_in_train": 2.3}},
    {"dev_loss": 2.4, "train_loss": 1.5, "dev_parts": {"in_train": 1.3, "not_in_train": 2.6}},
)
"""Of a trial that overfits after its second evaluation."""


def test_train_and_dev_losses_are_of_the_same_weights(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    study.begin(0, patience=1)
    for losses in LOSSES:
        study.train(0, **losses)
    record = study.end(0, "COMPLETE")
    open_tracker().show_trial(record, study.journal)

    (run,) = runs(client, study, "trial")
    held = curves(client, run)
    assert [value for _, _, value in held["loss/train"]] == [2.4, 2.0, 1.5]
    assert [step for step, _, _ in held["loss/train"]] == [line.step for line in record.curve]
    points = [point for line in record.curve for point in line.train]
    assert [(step, loss) for step, _, loss in held["loss/batch"]] == [p[:2] for p in points]
    assert [value for _, _, value in held["loss/dev_in_train"]] == [1.7, 1.3]
    assert [value for _, _, value in held["loss/dev_not_in_train"]] == [2.3, 2.6]
    metrics = run.data.metrics
    assert (metrics["dev_loss"], metrics["train_loss"], metrics[SCORE]) == (2.2, 2.0, 2.2)
    assert (metrics["dev_loss_in_train"], metrics["dev_loss_not_in_train"]) == (1.7, 2.3)
    assert metrics["best_step"] == record.curve[1].step
    note = run.data.tags["mlflow.note.content"]
    assert "| 2.0000 | 2.2000 | 1.7000 | 2.3000 |" in note


def test_trial_that_an_older_version_began_goes_on(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    study.begin(0)
    old = study.train(0)
    open_tracker().show_trial(old, study.journal)
    record = study.train(0, **LOSSES[1])
    for _ in range(2):
        open_tracker().show_trial(record, study.journal)

    (run,) = runs(client, study, "trial")
    held = curves(client, run)
    before = [(step, loss) for step, loss, _ in record.curve[0].train]
    assert [(step, loss) for step, _, loss in held["loss/train"]] == [
        *before,
        (record.curve[1].step, 2.0),
    ]
    after = [(step, loss) for step, loss, _ in record.curve[1].train]
    assert [(step, loss) for step, _, loss in held["loss/batch"]] == after


def test_view_follows_the_curves_and_is_kept(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    def scale() -> CurveScale | None:
        experiment = client.get_experiment_by_name(PREFIX + study.facts.name)
        assert experiment is not None
        return read_scale(experiment.tags.get(view_tag(study.facts.id)[0]))

    tracker = open_tracker()
    assert scale() is None
    tracker.show_trial(study.complete(0, n_segments=4), study.journal)
    first = scale()
    assert first is not None
    assert first.low < 2.35 < first.high
    tracker.show_trial(study.complete(1, n_segments=2), study.journal)
    both = scale()
    assert both is not None
    assert (both.low, both.high > 2.61) == (first.low, True)
    open_tracker()
    assert scale() == both
    key, _ = view_tag(study.facts.id)
    client.set_experiment_tag(tracker.experiment_id, key, "of another format")
    open_tracker().show_study(study.summary())
    assert scale() == both


def test_complete_trial_brings_its_model_and_figures(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    study.complete(0)
    show_four(open_tracker(), study)
    (child,), (parent,) = runs(client, study, "trial"), runs(client, study, "study")

    found = artifacts(client, child, tmp_path)

    folder = study.journal.trial_folder(0)
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
    assert found["model/spec.json"] == (folder / "spec.json").read_bytes()
    assert found["samples.txt"] == "emma\nzoë\n".encode()
    found |= artifacts(client, parent, tmp_path)
    assert all(found[name].startswith(b"\x89PNG") for name in found if name.endswith(".png"))
    for name, content in found.items():
        # A pickle of protocol 2 and later, and the zip that torch.save makes.
        assert not content.startswith((b"\x80", b"PK")), name
        assert name.endswith((".png", ".webp", ".json", ".safetensors", ".txt"))


def test_parent_sums_the_study_up(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    write_four(study)
    study.complete(4)
    show_four(open_tracker(), study)
    (parent,) = runs(client, study, "study")
    experiment = client.get_experiment_by_name(PREFIX + study.facts.name)
    assert experiment is not None

    best = study.live[0].dev_loss
    assert best is not None
    assert parent.info.status == "KILLED"
    assert parent.info.run_name == study.journal.name
    assert parent.data.metrics == {
        "n_complete": 2,
        "n_pruned": 1,
        "n_fail": 1,
        "best_dev_loss": best,
    }
    assert parent.data.params == {k: str(v) for k, v in study.facts.params.items()}
    assert parent.data.tags["mmsearch.best_trial"] == "0"
    assert parent.data.tags["mmsearch.state"] == "INTERRUPTED"
    assert experiment.tags["mmsearch.study"] == study.journal.name
    note = experiment.tags["mlflow.note.content"]
    assert note == parent.data.tags["mlflow.note.content"]
    assert study.facts.description in note
    assert f"Best: trial 0, dev loss {best:.4f}" in note
    assert set(artifacts(client, parent, tmp_path)) == {
        f"figures/{name}.png"
        for name in ("history", "importance", "parallel_coordinates", "trade_off")
    }


def test_study_without_a_trial_can_be_shown(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    summary = dataclasses.replace(study.summary(is_done=False), importances=dict)

    open_tracker().show_study(summary)

    (parent,) = runs(client, study, "study")
    assert parent.data.metrics == {"n_complete": 0, "n_pruned": 0, "n_fail": 0}
    assert "mmsearch.best_trial" not in parent.data.tags
    assert artifacts(client, parent, tmp_path) == {}


def test_study_carried_on_shows_as_running_and_then_as_done(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    def said() -> tuple[str, str]:
        (parent,) = runs(client, study, "study")
        return parent.info.status, parent.data.tags["mmsearch.state"]

    tracker = open_tracker()
    assert said() == ("RUNNING", "RUNNING")
    tracker.show_study(study.summary(is_done=False))
    assert said() == ("KILLED", "INTERRUPTED")
    tracker = open_tracker()
    tracker.show_running()
    assert said() == ("RUNNING", "RUNNING")
    tracker.show_study(study.summary())
    assert said() == ("FINISHED", "COMPLETE")


def test_summary_that_is_shown_is_recognised(
    open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    assert not open_tracker().has_summary(study.summary())
    open_tracker().show_study(study.summary())
    assert open_tracker().has_summary(study.summary())
    assert not open_tracker().has_summary(study.summary(is_done=False))
    study.complete(0)
    assert not open_tracker().has_summary(study.summary())
    open_tracker().show_study(study.summary())
    open_tracker().show_running()
    assert not open_tracker().has_summary(study.summary())


# Each thing once.


def test_shown_twice_is_there_once(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    write_four(study)
    tracker = open_tracker()
    show_four(tracker, study)
    before = everything(client, study, tmp_path)

    show_four(tracker, study)
    assert everything(client, study, tmp_path) == before

    fresh = open_tracker()
    assert (fresh.parent_id, fresh.experiment_id) == (tracker.parent_id, tracker.experiment_id)
    show_four(fresh, study)
    assert everything(client, study, tmp_path) == before


def test_curve_grows_point_by_point_across_trackers(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    tracker = open_tracker()
    for segment in range(5):
        record = study.train(0) if segment else study.begin(0, n_segments=5)
        if segment == 3:
            tracker = open_tracker()
        tracker.show_trial(record, study.journal)
        tracker.show_trial(record, study.journal)

    (run,) = runs(client, study, "trial")
    assert curves(client, run) == expected_curves(study.live[0])
    assert run.info.status == "RUNNING"


def test_segment_trained_again_is_there_once(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    study.begin(0)
    shown = [study.train(0) for _ in range(2)][-1]
    open_tracker().show_trial(shown, study.journal)
    study.journal.weights_path(0).unlink()
    curve, _ = study.journal.resume(0)
    assert not curve

    study.begin(0, started_ms=T1_MS)  # whence the helper takes the time of each segment
    tracker = open_tracker()
    for _ in range(3):
        tracker.show_trial(study.train(0), study.journal)
    tracker.show_trial(study.end(0, "PRUNED"), study.journal)

    (run,) = runs(client, study, "trial")
    held = curves(client, run)
    for key, points in expected_curves(study.live[0]).items():
        assert [(step, value) for step, _, value in held[key]] == [(p[0], p[2]) for p in points]


def test_missing_are_the_ended_trials_that_are_not_whole(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    records = write_four(study)
    tracker = open_tracker()
    assert tracker.lacking(study.journal.records()) == [0, 1, 2, 3]

    tracker.show_trial(records[1], study.journal)
    tracker.show_trial(dataclasses.replace(records[2], outcome=None), study.journal)
    tracker.show_trial(records[3], study.journal)

    assert tracker.lacking(study.journal.records()) == [0, 2, 3]
    fresh = open_tracker()
    assert fresh.lacking(study.journal.records()) == [0, 2, 3]
    for number in fresh.lacking(study.journal.records()):
        fresh.show_trial(study.journal.read(number), study.journal, is_idle=True)
    assert open_tracker().lacking(study.journal.records()) == []
    assert len(runs(client, study, "trial")) == 4


def test_run_that_a_crash_left_without_params_gets_them(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    record = study.complete(0)
    experiment = client.create_experiment(
        PREFIX + study.facts.name, artifact_location=(tmp_path / "artifacts").as_uri()
    )
    ours = {"mmsearch.study": study.journal.name, "mmsearch.study_id": study.facts.id}
    parent = client.create_run(experiment, tags={**ours, "mmsearch.kind": "study"})
    client.create_run(
        experiment,
        start_time=record.facts["started_ms"],
        tags={
            **ours,
            "mmsearch.kind": "trial",
            "mmsearch.trial": "0",
            "mlflow.parentRunId": parent.info.run_id,
        },
    )

    tracker = open_tracker()
    tracker.show_trial(record, study.journal)

    (child,), (parent,) = runs(client, study, "trial"), runs(client, study, "study")
    assert set(child.data.params) == {*record.spec.to_json(), "log10_learning_rate"}
    assert set(parent.data.params) == set(study.facts.params)


def test_run_that_was_made_twice_is_shown_once(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    study.complete(0)
    before = open_tracker()
    before.show_trial(study.journal.read(0), study.journal)
    for kind in ("study", "trial"):
        (run,) = runs(client, study, kind)
        tags = {key: value for key, value in run.data.tags.items() if "mmsearch" in key}
        tags["mlflow.parentRunId"] = before.parent_id
        for start_time in (run.info.start_time - 1, run.info.start_time + 1):
            client.create_run(run.info.experiment_id, start_time=start_time, tags=tags)

    tracker = open_tracker()
    tracker.show_trial(study.journal.read(0), study.journal)
    tags = {key: value for key, value in tags.items() if key != "mmsearch.trial"}
    client.create_run(tracker.experiment_id, tags={**tags, "mmsearch.kind": "study"})
    tracker.show_study(study.summary())

    (child,), (parent,) = runs(client, study, "trial"), runs(client, study, "study")
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert parent.info.run_id == before.parent_id == child.data.tags["mlflow.parentRunId"]
    assert curves(client, child).keys() > expected_curves(study.live[0]).keys()


def test_long_curve_arrives_whole(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study
) -> None:
    study.begin(0)
    study.train(0, n_points=499)
    study.train(0, n_points=400)
    study.train(0, n_points=350)
    record = study.end(0, "PRUNED")

    open_tracker().show_trial(record, study.journal)

    (run,) = runs(client, study, "trial")
    held = curves(client, run)
    expected = expected_curves(record)
    assert sum(map(len, expected.values())) > 2000
    assert {key: held[key] for key in expected} == expected


def test_every_child_is_found_beyond_one_page(
    client: MlflowClient,
    open_tracker: Callable[[], StudyTracker],
    study: Study,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmsearch.tracking.mlflow.client.PAGE", 2)
    for number in range(5):
        study.begin(number, started_ms=1_700_000_000_000)
        study.end(number, "FAIL", reason="x")
    for _ in range(2):
        tracker = open_tracker()
        for record in study.journal.records():
            tracker.show_trial(record, study.journal)

    children = runs(client, study, "trial")
    assert [run.data.tags["mmsearch.trial"] for run in children] == ["0", "1", "2", "3", "4"]
    assert open_tracker().lacking(study.journal.records()) == []


# What goes wrong.


def test_weights_that_are_not_the_trials_are_not_shown(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, tmp_path: Path
) -> None:
    record = study.complete(0)
    path = study.journal.weights_path(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # still safetensors
    path.write_bytes(content)
    tracker = open_tracker()

    with pytest.raises(JournalError, match="weights"):
        tracker.show_trial(record, study.journal)

    (run,) = runs(client, study, "trial")
    assert run.info.status == "RUNNING"
    assert artifacts(client, run, tmp_path) == {}
    path.write_bytes(study.weights(0, 2))
    fresh = open_tracker()
    fresh.show_trial(record, study.journal)
    (run,) = runs(client, study, "trial")
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("reason", ["é" * 20_000, "no \udcff"])
def test_any_failure_of_a_trial_can_be_shown(
    client: MlflowClient, open_tracker: Callable[[], StudyTracker], study: Study, reason: str
) -> None:
    study.begin(0)
    study.end(0, "FAIL", reason=reason, error=reason)

    open_tracker().show_trial(study.journal.read(0), study.journal)

    (run,) = runs(client, study, "trial")
    shown = run.data.tags["mmsearch.reason"]
    assert reason.encode("utf-8", "backslashreplace").decode().startswith(shown)
    assert len(shown) >= min(1000, len(reason))


def test_deleted_experiment_is_told_with_the_way_back(
    client: MlflowClient,
    open_tracker: Callable[[], StudyTracker],
    study: Study,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study.complete(0)
    show_four(open_tracker(), study)
    before = [run.info.run_id for run in runs(client, study, "trial")]
    client.delete_experiment(runs(client, study, "study")[0].info.experiment_id)

    with pytest.raises(MMSearchError) as caught:
        open_tracker()
    assert PREFIX + study.facts.name in str(caught.value)
    command = str(caught.value).rpartition(": ")[2].split()
    assert command[:2] == ["mlflow", "experiments"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    done = CliRunner().invoke(import_module("mlflow.experiments").commands, command[2:])
    assert done.exit_code == 0, done.output

    fresh = open_tracker()
    assert fresh.lacking(study.journal.records()) == []
    assert [run.info.run_id for run in runs(client, study, "trial")] == before


def test_store_is_created_under_the_given_lock(new_store: NewStore) -> None:
    assert new_store.existed_at_lock is False
    assert new_store.existed_at_release is True


def test_nothing_is_left_in_the_current_folder(
    store: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    study.complete(0)
    tracker = study.tracker(store, tmp_path / "artifacts")
    tracker.open()
    show_four(tracker, study)

    assert not list(here.iterdir())
    assert list((tmp_path / "artifacts").rglob("loss.png"))


def test_error_is_told_in_one_line() -> None:
    assert first_line(ValueError("first\nsecond")) == "ValueError: first"
    assert first_line(ValueError()) == "ValueError: "
    assert len(first_line(ValueError("x" * 10_000))) < 400
