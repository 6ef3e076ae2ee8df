"""`mmsearch sync` rebuilds a deleted MLflow store from the workspace."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.forked_cli import Warm

VOLATILE = ("mlflow.log-model.history", "mlflow.parentRunId", "mlflow.loggedArtifacts")
"""Tags with ids of runs, which differ between stores."""

RUN_ID = re.compile(r"(?<=run_uuid=)[0-9a-f]{32}")
IMAGE_ID = re.compile(r"[+%][0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The random part of the name of an image."""


def artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> dict[str, str]:
    """Hash the artifacts of a run; images, which have a random name, count by name only."""
    found: dict[str, str] = {}
    for item in client.list_artifacts(run_id, path):
        if item.is_dir:
            found |= artifacts(client, run_id, item.path)
        elif item.path.endswith((".png", ".webp")):
            found[IMAGE_ID.sub("", item.path)] = ""
        else:
            data = Path(client.download_artifacts(run_id, item.path)).read_bytes()
            found[item.path] = hashlib.sha256(data).hexdigest()
    return found


def content_of(client: MlflowClient, run: Run) -> dict[str, Any]:
    """Return everything of a run but ids and the times of uploads."""
    info, data = run.info, run.data
    is_training = data.tags["mmsearch.kind"] in {"trial", "confirm", "extend"}
    points = {
        key: sorted((p.step, p.value) for p in client.get_metric_history(info.run_id, key))
        for key in data.metrics
    }
    return {
        "name": info.run_name,
        "status": info.status,
        "times": (info.start_time, info.end_time) if is_training else None,
        "params": data.params,
        "points": points,
        "tags": {k: RUN_ID.sub("", tag) for k, tag in data.tags.items() if k not in VOLATILE},
        "is_child": "mlflow.parentRunId" in data.tags,
        "artifacts": artifacts(client, info.run_id),
    }


def everything(uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tags of the only experiment, and each of its runs by name."""
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "mmsearch/few"]
    # A learning-rate test is no part of a study, and is not kept in its workspace.
    others = "tags.mmsearch.kind != 'lr-range'"
    runs = list(client.search_runs([experiment.experiment_id], others))
    champion = client.get_model_version_by_alias("mmsearch-few", "champion")
    said = {
        **{key: RUN_ID.sub("", tag) for key, tag in experiment.tags.items()},
        "champion": (champion.tags["mmsearch.model_sha256"], champion.description),
    }
    found = {
        f"{r.data.tags['mmsearch.kind']} {r.info.run_name}": content_of(client, r) for r in runs
    }
    assert len(found) == len(runs)
    return said, found


def test_sync_gives_an_emptied_mlflow_all_that_it_held(
    told: Path, tmp_path: Path, warm_command: Warm
) -> None:
    """Trials, fresh seeds, extensions, the test evaluation and its model: points, tags, files."""
    shutil.copytree(told, tmp_path, dirs_exist_ok=True)
    said, runs = everything(f"sqlite:///{told}/runs/mlflow.db")
    kinds = sorted(name.split()[0] for name in runs)
    assert kinds == ["confirm"] * 4 + ["extend", "final-test", "study"] + ["trial"] * 4

    for path in (tmp_path / "runs").glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(tmp_path / "runs/artifacts")
    warm_command("sync", "--study", "few", folder=tmp_path, code=0)

    said_again, again = everything(f"sqlite:///{tmp_path}/runs/mlflow.db")
    assert said_again == said
    assert sorted(again) == sorted(runs)
    for name, run in runs.items():
        assert again[name] == run, name
