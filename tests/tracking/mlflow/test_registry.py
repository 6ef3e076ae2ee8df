"""The best model in a real registry, published whole, once, and served where mmsearch is not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.model.checkpoint import from_bytes
from mmsearch.tracking.mlflow.client import connect
from mmsearch.tracking.mlflow.registry import publish
from tests.support.commands import environment
from tests.support.specs import make_parameters
from tests.tracking.mlflow.test_pyfunc_model import LETTERS, torch_nats, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

    from tests.support.tracked_study import NewStore

NAME = "mmsearch-first.names"
ALIAS = f"models:/{NAME}@champion"

KILLED_AFTER = (
    "create_logged_model",
    "log_model_artifacts",
    "finalize_logged_model",
    "create_registered_model",
    "create_model_version",
    "log_outputs",
    "set_logged_model_tags",
    "set_registered_model_alias",
)
"""Every call of `publish` that changes the store."""

HALF = "half of log_model_artifacts"
"""The call that takes long enough to be killed within."""

# Forks for each store a process that publishes and dies by SIGKILL right after one call.
KILLING = """
import json, os, signal, sys
from importlib import import_module
from pathlib import Path
from mmsearch.tracking.mlflow.registry import import_pyfunc_model, publish
from mmsearch.tracking.mlflow.client import connect

import_pyfunc_model()
for slow in ("tracking", "model_registry"):
    import_module(f"mlflow.store.{slow}.sqlalchemy_store")
for uri, step, facts in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        client = connect(uri)
        name = step.rpartition(" ")[2]
        call = getattr(client, name)
        def die(*args, **kwargs):
            if name != step:
                torn = Path(args[1], "MLmodel")
                torn.write_text(torn.read_text()[:100])
                client.log_model_artifact(args[0], str(torn))
            else:
                call(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(client, name, die)
        publish(client, **facts | {"folder": Path(facts["folder"])})
        os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (step, status)
"""


@dataclass(frozen=True, slots=True)
class Trained:
    """A store with one run, and the model that the run trained."""

    uri: str
    experiment_id: str
    run_id: str
    folder: Path
    sha256: str = "a" * 64

    @property
    def client(self) -> MlflowClient:
        """Open the store, as each process does."""
        return connect(self.uri)

    @property
    def facts(self) -> dict[str, Any]:
        """What `publish` is told."""
        return {
            "experiment_id": self.experiment_id,
            "run_id": self.run_id,
            "folder": self.folder,
            "registered_name": NAME,
            "model_sha256": self.sha256,
            "study_id": "an-id",
            "is_fresh": True,
            "params": {"block_size": 3, "learning_rate": 0.1, "init": None},
            "description": "Best of study `first.names`.",
        }

    def publish(self, **changes: Any) -> str:
        """Publish the model, but for some changes."""
        return publish(self.client, **self.facts | changes)

    def logged(self) -> list[LoggedModel]:
        """Find all logged models, finished or not."""
        return list(self.client.search_logged_models([self.experiment_id]))

    def versions(self) -> dict[str, str]:
        """Return each registered version's model."""
        found = self.client.search_model_versions(f"name = '{NAME}'")
        return {str(v.version): v.tags["mmsearch.model_sha256"] for v in found}

    def nats(self, word: str) -> float:
        """Score a word as training does."""
        weights = (self.folder / "weights.safetensors").read_bytes()
        return torch_nats(from_bytes(weights), word)


def train(store: NewStore, folder: Path, seed: int = 0) -> Trained:
    """Make a store with one ended run, and the folder of its model."""
    folder.mkdir(exist_ok=True)
    uri = store.copy(folder)
    client = connect(uri)
    artifacts = (folder / "artifacts").as_uri()
    experiment_id = client.create_experiment("mmsearch/first.names", artifact_location=artifacts)
    run_id = client.create_run(experiment_id).info.run_id
    client.set_terminated(run_id)
    parameters = make_parameters(LETTERS.size, 4, 16, 3, seed=seed)
    return Trained(uri, experiment_id, run_id, write_model(folder / "best", parameters))


@pytest.fixture
def trained(new_store: NewStore, tmp_path: Path) -> Trained:
    """Make a store of the test's own."""
    return train(new_store, tmp_path / "store")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with no MLflow of one's own and no pickle allowed."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return folder


def load(trained: Trained, uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a model as a person does who has never heard of mmsearch."""
    import mlflow  # noqa: PLC0415 (after telemetry was turned off)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.uri)
    model = mlflow.pyfunc.load_model(uri)
    mlflow.clear_active_model()
    return model


# What stands in the registry.


def test_champion_is_loaded_by_its_alias(
    trained: Trained, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained.publish() == "1"

    (logged,) = trained.logged()
    for uri in (ALIAS, f"models:/{NAME}/1", f"models:/{logged.model_id}"):
        model = load(trained, uri, monkeypatch)
        answer = model.predict([{"word": "emma"}, {"prefix": "em"}], params={"max_length": 5})
        score, continuation = answer["nats_per_char"][0], answer["continuation"][1]
        assert score == pytest.approx(trained.nats("emma"), abs=1e-5)
        assert continuation.startswith("em")
        assert model.metadata.run_id == trained.run_id
        assert model.metadata.model_id == logged.model_id
    assert not list(elsewhere.iterdir())


def test_everything_leads_to_everything(trained: Trained) -> None:
    number = trained.publish()

    (logged,) = trained.logged()
    found = trained.client.get_model_version_by_alias(NAME, "champion")
    assert (str(found.version), found.run_id) == (number, trained.run_id)
    assert found.source == logged.artifact_location
    assert found.description == "Best of study `first.names`."
    assert found.tags == {"mmsearch.model_sha256": "a" * 64, "mmsearch.study_id": "an-id"}
    assert (logged.status, logged.source_run_id) == ("READY", trained.run_id)
    assert logged.params == {"block_size": "3", "learning_rate": "0.1", "init": "None"}
    links = json.loads(logged.tags["mlflow.modelVersions"])
    assert links == [{"name": NAME, "version": number}]
    outputs = trained.client.get_run(trained.run_id).outputs
    assert outputs is not None
    assert [output.model_id for output in outputs.model_outputs] == [logged.model_id]


def test_model_is_made_of_files_that_anybody_can_read(trained: Trained) -> None:
    trained.publish()

    (logged,) = trained.logged()
    root = Path(logged.artifact_location.removeprefix("file://"))
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    assert set(files) == {
        "MLmodel",
        "artifacts/model/spec.json",
        "artifacts/model/vocabulary.json",
        "artifacts/model/weights.safetensors",
        "conda.yaml",
        "input_example.json",
        "python_env.yaml",
        "requirements.txt",
        "pyfunc_model.py",
        "serving_input_example.json",
    }
    for name in ("spec.json", "vocabulary.json", "weights.safetensors"):
        content = (trained.folder / name).read_bytes()
        assert files[f"artifacts/model/{name}"].read_bytes() == content
    for name, path in files.items():
        # A pickle of protocol 2 and later, and the zip that torch.save makes.
        assert not path.read_bytes().startswith((b"\x80", b"PK")), name
    packages = ("mlflow", "numpy", "pandas", "safetensors")
    expected = [f"{package}=={version(package)}" for package in packages]
    assert files["requirements.txt"].read_text().split() == expected


def test_publishing_is_silent_and_leaves_no_trace_of_its_own(
    trained: Trained, elsewhere: Path
) -> None:
    code = (
        "import json, os, sys; from pathlib import Path\n"
        "from mmsearch.tracking.mlflow.registry import publish\n"
        "from mmsearch.tracking.mlflow.client import connect\n"
        "facts = json.load(sys.stdin)\n"
        "publish(connect(sys.argv[1]), **facts | {'folder': Path(facts['folder'])})\n"
        "import mlflow\n"
        "assert mlflow.active_run() is None\n"
        "assert mlflow.get_active_model_id() is None\n"
        "assert 'MLFLOW_TRACKING_URI' not in os.environ\n"
        "assert not mlflow.is_tracking_uri_set()\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore:.*noload", "-c", code, trained.uri],
        input=json.dumps(trained.facts | {"folder": str(trained.folder)}),
        env=environment(trained.folder),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(elsewhere.iterdir())


# Each thing once.


def test_published_twice_is_there_once(trained: Trained) -> None:
    assert trained.publish() == "1"
    (logged,) = trained.logged()
    mlmodel = Path(logged.artifact_location.removeprefix("file://")) / "MLmodel"
    written_ns = mlmodel.stat().st_mtime_ns

    assert trained.publish() == "1"

    assert [model.status for model in trained.logged()] == ["READY"]
    assert mlmodel.stat().st_mtime_ns == written_ns
    assert trained.versions() == {"1": "a" * 64}
    outputs = trained.client.get_run(trained.run_id).outputs
    assert outputs is not None
    assert len(outputs.model_outputs) == 1


def test_alias_follows_the_model_that_was_tested_last(trained: Trained) -> None:
    other = replace(trained, sha256="b" * 64)

    def champion() -> str:
        return str(trained.client.get_model_version_by_alias(NAME, "champion").version)

    assert [trained.publish(), other.publish(), trained.publish()] == ["1", "2", "1"]
    assert champion() == "1"
    assert trained.versions() == {"1": "a" * 64, "2": "b" * 64}
    assert len(trained.logged()) == 2
    assert other.publish(study_id="two") == "2"
    assert trained.publish(is_fresh=False) == "1"
    assert champion() == "1", "version 2 belongs to the first study"
    third = replace(trained, sha256="c" * 64)
    assert third.publish(study_id="two") == "3"
    assert trained.publish(is_fresh=False) == "1"
    assert champion() == "3"


@pytest.mark.parametrize("is_published", [False, True])
def test_model_that_was_made_twice_is_there_once(trained: Trained, *, is_published: bool) -> None:
    if is_published:
        trained.publish()
    for _ in range(2):
        trained.client.create_logged_model(
            trained.experiment_id,
            source_run_id=trained.run_id,
            tags={"mmsearch.model_sha256": trained.sha256},
        )

    assert trained.publish() == "1"

    assert [model.status for model in trained.logged()] == ["READY"]
    assert trained.versions() == {"1": "a" * 64}


@pytest.fixture(scope="module")
def killed(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Make stores whose publishing process was killed, each after another call."""
    folder = tmp_path_factory.mktemp("killed")
    stores = {step: train(new_store, folder / step) for step in (*KILLED_AFTER, HALF)}
    orders = [
        (trained.uri, step, trained.facts | {"folder": str(trained.folder)})
        for step, trained in stores.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLING],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return stores


@pytest.mark.parametrize("step", [*KILLED_AFTER, HALF])
def test_what_a_killed_process_began_is_finished(
    killed: dict[str, Trained], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = killed[step]

    assert trained.publish() == "1"

    (logged,) = trained.logged()
    assert logged.status == "READY"
    assert trained.versions() == {"1": "a" * 64}
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    outputs = trained.client.get_run(trained.run_id).outputs
    assert outputs is not None
    assert len(outputs.model_outputs) == 1
    answer = load(trained, ALIAS, monkeypatch).predict([{"word": "emma"}])
    assert answer["nats_per_char"][0] == pytest.approx(trained.nats("emma"), abs=1e-5)


def test_every_call_that_changes_the_store_was_killed_after(trained: Trained) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415 (after telemetry was turned off)

    called = []

    class Listening(MlflowClient):
        """A client that says what it is asked."""

        def __getattribute__(self, name: str) -> Any:
            called.append(name)
            return super().__getattribute__(name)

    publish(Listening(tracking_uri=trained.uri), **trained.facts)

    changing = ("create_", "log_", "finalize_", "set_", "delete_", "update_")
    assert {name for name in called if name.startswith(changing)} == set(KILLED_AFTER)


# What is served.


@dataclass(frozen=True, slots=True)
class Served:
    """A model behind `mlflow models serve`."""

    trained: Trained
    url: str

    def post(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Ask it; the status and the body, which must be JSON as browsers read it."""
        request = urllib.request.Request(  # noqa: S310 (our own server)
            f"{self.url}/invocations",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (likewise)
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        return status, json.loads(text, parse_constant=pytest.fail)


def bare_environment(folder: Path) -> Path:
    """Make an environment with our dependencies and without us; its interpreter."""
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A path file's own path files are not read, and mmsearch is installed by one.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # MLflow starts its server as `uvicorn`, wherever the PATH has one.
    uvicorn = folder / "bin/uvicorn"
    uvicorn.write_text(f"#!{python}\nfrom uvicorn.main import main\nmain()\n")
    uvicorn.chmod(0o755)
    return python


def wait_for_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server is up."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5):  # noqa: S310 (our own server)
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def served_model(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a published model where mmsearch cannot be imported."""
    folder = tmp_path_factory.mktemp("served")
    trained = train(new_store, folder / "store")
    trained.publish()
    python = bare_environment(folder / "env")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": trained.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    env = environment(folder, settings)
    done = subprocess.run(
        [python, "-c", "import mmsearch"],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No module named 'mmsearch'" in done.stderr
    log = folder / "log.txt"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                python, "-m", "mlflow", "models", "serve", "--model-uri", ALIAS,
                "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
            ],
            cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_answer(url, process, log)
            yield Served(trained, url)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_server_scores_and_continues(served_model: Served) -> None:
    rows = [{"word": "emma"}, {"prefix": "em"}, {"word": "zzz"}, {"prefix": ""}]
    params = {"seed": 1, "temperature": 0.5, "max_length": 6}

    status, body = served_model.post({"dataframe_records": rows, "params": params})

    assert status == 200
    emma, em, zzz, new = body["predictions"]
    for answer, word in ((emma, "emma"), (zzz, "zzz")):
        expected = pytest.approx(served_model.trained.nats(word), abs=1e-5)
        assert answer == {"nats_per_char": expected, "continuation": None}
    assert em["nats_per_char"] is new["nats_per_char"] is None
    assert em["continuation"].startswith("em")
    assert max(len(em["continuation"]), len(new["continuation"])) <= 6
    assert served_model.post({"dataframe_records": rows, "params": params}) == (status, body)


@pytest.mark.parametrize(
    ("row", "params", "named"),
    [
        ({"word": "emmä"}, {}, "U+00E4"),
        ({"prefix": ""}, {"seed": 0.5}, "seed"),
        ({"words": "emma"}, {}, "words"),
    ],
)
def test_server_blames_who_asked(
    served_model: Served, row: dict[str, Any], params: dict[str, Any], named: str
) -> None:
    status, body = served_model.post({"dataframe_records": [row], "params": params})

    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert named in body["message"]
