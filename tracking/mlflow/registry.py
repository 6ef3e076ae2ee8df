"""The tested model of a study in MLflow's registry: loaded by its alias, served without mmsearch.

A process may be killed after any step, so each step first checks whether it has been done.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

from mmsearch.tracking.journal.files import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

ALIAS = "champion"
"""Alias of the version to use: `models:/NAME@champion`."""

MODEL_FILES = ("weights.safetensors", "spec.json", "vocabulary.json")
"""The files of a model that are published."""

_SHA256 = "mmsearch.model_sha256"
_STUDY = "mmsearch.study_id"
_REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors")


def publish(  # noqa: PLR0913 (each is one fact of the model)
    client: MlflowClient,
    *,
    experiment_id: str,
    run_id: str,
    folder: Path,
    registered_name: str,
    model_sha256: str,
    study_id: str,
    is_fresh: bool,
    params: Mapping[str, Any],
    description: str,
) -> str:
    """Log the model of a run, register it, and set the alias; not for two processes at once.

    Studies of the same name share a registered model: only a model that has just been tested takes
    the alias from a model of another study.

    Args:
        client: the store; no other is used, not even MLflow's global one.
        experiment_id: experiment of the run.
        run_id: run that the model is logged to.
        folder: holds `MODEL_FILES`.
        registered_name: name in the registry, without `/`, `:` and quotes.
        model_sha256: SHA-256 of the weights; the same model is logged and registered once.
        study_id: the study that tested the model.
        is_fresh: whether the model has just been tested.
        params: shown with the logged model.
        description: note on the version, in Markdown.

    Returns:
        The number of the version.
    """
    # Progress bars for a few small files would be drawn over the display.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    model = _ready_model(client, experiment_id, run_id, folder, model_sha256, params)
    tags = {_SHA256: model_sha256, _STUDY: study_id}
    version = _registered_version(client, model, run_id, registered_name, tags, description)
    _link(client, model, run_id, registered_name, version)
    current = client.get_registered_model(registered_name).aliases.get(ALIAS)
    is_ours = current is None or (
        client.get_model_version(registered_name, str(current)).tags.get(_STUDY) == study_id
    )
    if str(current) != version and (is_fresh or is_ours):
        client.set_registered_model_alias(registered_name, ALIAS, version)
    return version


def import_pyfunc_model() -> ModuleType:
    """Import `pyfunc_model`, without the warning about MLflow's own type hints."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        from mmsearch.tracking.mlflow import pyfunc_model  # noqa: PLC0415 (slow; see client.connect)
    return pyfunc_model


def _ready_model(  # noqa: PLR0913, PLR0917 (as above)
    client: MlflowClient,
    experiment_id: str,
    run_id: str,
    folder: Path,
    model_sha256: str,
    params: Mapping[str, Any],
) -> LoggedModel:
    """Find the logged model of the run, and complete it if needed, or create it."""
    found = client.search_logged_models(
        [experiment_id],
        f"source_run_id = '{run_id}' AND tags.`{_SHA256}` = '{model_sha256}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": True}],
    )
    found.sort(key=lambda model: model.status != "READY")
    # MLflow's client repeats a call that timed out, and a slow server creates a model for each.
    for double in found[1:]:
        if double.status != "READY":
            client.delete_logged_model(double.model_id)
    model = (
        found[0]
        if found
        else client.create_logged_model(
            experiment_id,
            name=ALIAS,
            source_run_id=run_id,
            tags={_SHA256: model_sha256},
            params={key: str(value) for key, value in params.items()},
        )
    )
    if model.status == "READY":
        return model
    with scratch_folder() as scratch:
        # The names are always the same, so the files of a killed process are overwritten.
        client.log_model_artifacts(model.model_id, str(_save(model, folder, scratch)))
    return client.finalize_logged_model(model.model_id, "READY")


def _save(model: LoggedModel, folder: Path, scratch: Path) -> Path:
    """Save the model in MLflow's format: code, files and requirements, but no pickle."""
    pyfunc_model = import_pyfunc_model()
    import mlflow.pyfunc  # noqa: PLC0415 (slow; see client.connect)
    from mlflow.models import Model  # noqa: PLC0415 (likewise)

    files, saved = scratch / "model", scratch / "saved"
    files.mkdir()
    for name in MODEL_FILES:
        shutil.copyfile(folder / name, files / name)
    code = scratch / "pyfunc_model.py"
    # Copied without its mode, which MLflow would keep.
    shutil.copyfile(str(pyfunc_model.__file__), code)
    characters = json.loads((files / "vocabulary.json").read_bytes())
    mlflow.pyfunc.save_model(
        saved,
        python_model=str(code),
        artifacts={"model": str(files)},
        signature=pyfunc_model.SIGNATURE,
        input_example=[{"word": "".join(characters[1:4])}, {"prefix": ""}],
        # Otherwise MLflow loads the model in another process to find its imports.
        pip_requirements=[f"{name}=={installed(name)}" for name in _REQUIREMENTS],
        # Otherwise MLflow adds the lock file of a uv project in the current folder.
        uv_project_path=files,
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            model_id=model.model_id,
            run_id=model.source_run_id,
        ),
    )
    return saved


def _registered_version(  # noqa: PLR0913, PLR0917 (as above)
    client: MlflowClient,
    model: LoggedModel,
    run_id: str,
    registered_name: str,
    tags: Mapping[str, str],
    description: str,
) -> str:
    """Return the version of this model, registered if needed."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 (slow; see client.connect)

    try:
        client.create_registered_model(registered_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = client.search_model_versions(
        f"name = '{registered_name}' and tag.`{_SHA256}` = '{tags[_SHA256]}'"
    )
    if found:
        return str(min(int(version.version) for version in found))
    made = client.create_model_version(
        registered_name,
        # Not models:/ID, which a database store looks up in the global store.
        source=model.artifact_location,
        run_id=run_id,
        model_id=model.model_id,
        tags=dict(tags),
        description=description,
    )
    return str(made.version)


def _link(
    client: MlflowClient, model: LoggedModel, run_id: str, registered_name: str, version: str
) -> None:
    """Link the run to the model, and the model to its version, as MLflow's own calls do."""
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415 (slow; see client.connect)

    outputs = client.get_run(run_id).outputs
    linked = outputs.model_outputs if outputs else []
    if model.model_id not in {output.model_id for output in linked}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    key = "mlflow.modelVersions"
    versions = json.loads(client.get_logged_model(model.model_id).tags.get(key, "[]"))
    if not any((v["name"], str(v["version"])) == (registered_name, version) for v in versions):
        versions.append({"name": registered_name, "version": version})
        client.set_logged_model_tags(model.model_id, {key: json.dumps(versions)})
