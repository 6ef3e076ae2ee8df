"""The best model in a real registry, published whole, once, and served where mmsearch is not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow import MlflowClient

from mmsearch.model.checkpoint import from_bytes
from mmsearch.tracking.mlflow.client import connect
from mmsearch.tracking.mlflow.registry import publish
from tests.support.commands import environment
from tests.support.mlflow_server import free_port
from tests.support.specs import make_parameters
from tests.support.waiting import wait_until
from tests.tracking.mlflow.test_pyfunc_model import LETTERS, torch_nats, write_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow.entities import LoggedModel

    from tests.support.tracked_study import NewStore

NAME = "mmsearch-first.names"
ALIAS = f"models:/{NAME}@champion"

HALF = "half of log_model_artifacts"
"""The call that takes long enough to be killed within."""

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
"""Forks for each store a process that publishes and dies by SIGKILL right after one call."""


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

    @property
    def json_facts(self) -> dict[str, Any]:
        """The same, for another process."""
        return self.facts | {"folder": str(self.folder)}

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

    def champion(self) -> str:
        """Return the version that the alias names."""
        return str(self.client.get_model_version_by_alias(NAME, "champion").version)

    def assert_published_once(self) -> LoggedModel:
        """Check that there is one whole model, one version, and each link between them once."""
        [logged] = self.logged()
        assert (logged.status, logged.source_run_id) == ("READY", self.run_id)
        assert self.versions() == {"1": self.sha256}
        assert self.champion() == "1"
        links = json.loads(logged.tags["mlflow.modelVersions"])
        assert links == [{"name": NAME, "version": "1"}]
        outputs = self.client.get_run(self.run_id).outputs
        assert outputs is not None
        assert [output.model_id for output in outputs.model_outputs] == [logged.model_id]
        return logged

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


def assert_is_champion(trained: Trained, monkeypatch: pytest.MonkeyPatch, uri: str = ALIAS) -> None:
    model = load(trained, uri, monkeypatch)
    answer = model.predict([{"word": "emma"}, {"prefix": "em"}], params={"max_length": 5})
    score, continuation = answer["nats_per_char"][0], answer["continuation"][1]
    assert score == pytest.approx(trained.nats("emma"), abs=1e-5)
    assert continuation.startswith("em")
    assert model.metadata.run_id == trained.run_id


def test_champion_is_linked_and_loaded_by_each_of_its_names(
    trained: Trained, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds our files and no pickle, and pins what it imports."""
    assert trained.publish() == "1"

    logged = trained.assert_published_once()
    found = trained.client.get_model_version_by_alias(NAME, "champion")
    assert (found.run_id, found.source) == (trained.run_id, logged.artifact_location)
    assert found.description == "Best of study `first.names`."
    assert found.tags == {"mmsearch.model_sha256": "a" * 64, "mmsearch.study_id": "an-id"}
    assert logged.params == {"block_size": "3", "learning_rate": "0.1", "init": "None"}
    for uri in (ALIAS, f"models:/{NAME}/1", f"models:/{logged.model_id}"):
        assert_is_champion(trained, monkeypatch, uri)
    assert not list(elsewhere.iterdir())
    root = Path(logged.artifact_location.removeprefix("file://"))
    for name in ("spec.json", "vocabulary.json", "weights.safetensors"):
        content = (trained.folder / name).read_bytes()
        assert (root / "artifacts/model" / name).read_bytes() == content
    for path in root.rglob("*"):
        # A pickle of protocol 2 and later, and the zip that torch.save makes.
        assert path.is_dir() or not path.read_bytes().startswith((b"\x80", b"PK")), path
    packages = ("mlflow", "numpy", "pandas", "safetensors")
    expected = [f"{package}=={version(package)}" for package in packages]
    assert (root / "requirements.txt").read_text().split() == expected


def test_publishing_is_silent_and_leaves_no_trace_of_its_own(
    trained: Trained, elsewhere: Path
) -> None:
    """Nothing global of MLflow is set, and nothing is printed amid a table."""
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
        input=json.dumps(trained.json_facts),
        env=environment(trained.folder),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("is_published", [False, True])
def test_model_that_is_published_or_made_twice_is_there_once(
    trained: Trained, *, is_published: bool
) -> None:
    """MLflow's client repeats a call that timed out, and a slow server then answers both."""
    if is_published:
        trained.publish()
        (logged,) = trained.logged()
        mlmodel = Path(logged.artifact_location.removeprefix("file://")) / "MLmodel"
        written_ns = mlmodel.stat().st_mtime_ns
        assert trained.publish() == "1"
        trained.assert_published_once()
        assert mlmodel.stat().st_mtime_ns == written_ns
    for _ in range(2):
        trained.client.create_logged_model(
            trained.experiment_id,
            source_run_id=trained.run_id,
            tags={"mmsearch.model_sha256": trained.sha256},
        )

    assert trained.publish() == "1"

    trained.assert_published_once()


def test_alias_follows_the_model_that_was_tested_last(trained: Trained) -> None:
    """A model that is published again keeps its version, and takes no alias from a namesake."""
    other, third = replace(trained, sha256="b" * 64), replace(trained, sha256="c" * 64)

    assert [trained.publish(), other.publish(), trained.publish()] == ["1", "2", "1"]
    assert trained.champion() == "1"
    assert trained.versions() == {"1": "a" * 64, "2": "b" * 64}
    assert len(trained.logged()) == 2
    assert other.publish(study_id="two") == "2"
    assert trained.publish(is_fresh=False) == "1"
    assert trained.champion() == "1", "version 2 belongs to the first study"
    assert third.publish(study_id="two") == "3"
    assert trained.publish(is_fresh=False) == "1"
    assert trained.champion() == "3"


@pytest.mark.fault
def test_what_a_process_killed_after_any_call_began_is_finished(
    new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the store is found by listening to a publication."""
    called = []

    class Listening(MlflowClient):
        """A client that notes what it is asked."""

        def __getattribute__(self, name: str) -> Any:
            called.append(name)
            return super().__getattribute__(name)

    undisturbed = train(new_store, tmp_path / "undisturbed")
    publish(Listening(tracking_uri=undisturbed.uri), **undisturbed.facts)
    changing = ("create_", "log_", "finalize_", "set_", "delete_", "update_")
    steps = [HALF, *sorted({name for name in called if name.startswith(changing)})]
    assert len(steps) > 8
    stores = {step: train(new_store, tmp_path / step) for step in steps}
    orders = [(trained.uri, step, trained.json_facts) for step, trained in stores.items()]
    done = subprocess.run(
        [sys.executable, "-c", KILLING],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    for step, trained in stores.items():
        assert trained.publish() == "1", step
        trained.assert_published_once()
        assert_is_champion(trained, monkeypatch)


def bare_environment(folder: Path) -> Path:
    """Make an environment with our dependencies and without us; returns its interpreter."""
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


@contextlib.contextmanager
def serving(trained: Trained, folder: Path) -> Iterator[str]:
    """Serve the champion with plain MLflow, where mmsearch cannot be imported."""
    python, url = bare_environment(folder / "env"), f"http://127.0.0.1:{(port := free_port())}"
    settings = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": trained.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    env = environment(folder, settings)
    imported = subprocess.run(
        [python, "-c", "import mmsearch"],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No module named 'mmsearch'" in imported.stderr
    serve = ["mlflow", "models", "serve", "--env-manager", "local", "--model-uri", ALIAS]
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", *serve, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or ask(f"{url}/ping")[0] == 200)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, body: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """Ask a server; returns its status and its answer, or 0 where there is none yet."""
    request = urllib.request.Request(  # noqa: S310 (our own server)
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (likewise)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.fault
def test_plain_mlflow_serves_the_champion_and_blames_who_asks_wrongly(
    trained: Trained, tmp_path: Path
) -> None:
    """A bad request is a 400 with its reason, and not a 500; a bad row has its own error."""
    trained.publish()
    rows = [
        {"word": "emma"}, {"prefix": "em"}, {"word": "emmä"}, {"word": "zzz"}, {"prefix": ""},
    ]  # fmt: skip
    params = {"seed": 1, "temperature": 0.5, "max_length": 6}
    wrong: list[tuple[dict[str, str], dict[str, Any], str]] = [
        ({"prefix": ""}, {"seed": 0.5}, "seed"),
        ({"words": "emma"}, {}, "words"),
    ]
    with serving(trained, tmp_path) as url:
        body = {"dataframe_records": rows, "params": params}
        first, again = (ask(f"{url}/invocations", body) for _ in range(2))
        refusals = [
            ask(f"{url}/invocations", {"dataframe_records": [row], "params": given})
            for row, given, _ in wrong
        ]

    assert first == again
    status, text = first
    assert status == 200, text
    # As browsers read it: without NaN.
    emma, em, bad, zzz, new = json.loads(text, parse_constant=pytest.fail)["predictions"]
    for answer, word in ((emma, "emma"), (zzz, "zzz")):
        expected = pytest.approx(trained.nats(word), abs=1e-5)
        assert answer == {"nats_per_char": expected, "continuation": None, "error": None}
    assert "row 3" in bad["error"]
    assert em["nats_per_char"] is new["nats_per_char"] is None
    assert em["continuation"].startswith("em")
    assert max(len(em["continuation"]), len(new["continuation"])) <= 6
    for (_, _, named), (status, text) in zip(wrong, refusals, strict=True):
        assert (status, json.loads(text)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert named in json.loads(text)["message"]
