"""The MLflow UI over a real store: it starts, answers, is linked into, and goes away."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mmsearch.errors import InputError, MMSearchError
from mmsearch.tracking.mlflow.saved_view import view_key
from mmsearch.tracking.mlflow.server import (
    Server,
    _wait_for_answer,
    compare_url,
    leaderboard_url,
    run_url,
    serve,
)

# MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload:sqlalchemy.exc.SADeprecationWarning")

EXPERIMENT = "mmsearch/names"
DEV_LOSSES = (2.3, 2.1)


def make_store(folder: Path) -> tuple[str, str, list[str]]:
    """Make a store with one experiment of two trials; returns its URI, experiment and runs."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient  # noqa: PLC0415  # telemetry is decided on import

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    artifacts = folder / "artifacts"
    experiment = client.create_experiment(EXPERIMENT, artifact_location=artifacts.as_uri())
    runs = []
    for number, loss in enumerate(DEV_LOSSES):
        run = client.create_run(experiment, tags={"mmsearch.kind": "trial"}, run_name=str(number))
        client.log_metric(run.info.run_id, "dev_loss", loss)
        client.log_text(run.info.run_id, f"trial {number}", "figures/note.txt")
        client.set_terminated(run.info.run_id)
        runs.append(run.info.run_id)
    return uri, experiment, runs


def get(url: str, body: object = None) -> str:
    """Answer of `url`, asked by POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  # our own server
        url, data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # our own server
        text: str = answer.read().decode()
    return text


def is_open(server: Server) -> bool:
    """Whether anything still listens where `server` did."""
    parts = urlsplit(server.base)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=2)
    try:
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def is_alive(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[str], Path]:
    """Give the URI, experiment, runs and folder of a store that no test changes."""
    folder = tmp_path_factory.mktemp("store")
    return *make_store(folder), folder


@pytest.fixture(scope="module")
def server(store: tuple[str, str, list[str], Path]) -> Iterator[Server]:
    """Serve the store; at the start port 5000 is taken, by us or by somebody else."""
    uri, _, _, folder = store
    with socket.socket() as taken, ExitStack() as stack:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            taken.bind(("127.0.0.1", 5000))
            taken.listen()
        yield stack.enter_context(serve(uri, folder / "artifacts", log_folder=folder))


def test_server_shows_the_page_and_the_runs(
    server: Server, store: tuple[str, str, list[str], Path]
) -> None:
    """What the links open exists: the UI's page, and the trials in the order of the leaderboard."""
    assert "<title>MLflow</title>" in get(server.base + "/")
    body = {
        "experiment_ids": [store[1]],
        "filter": "tags.`mmsearch.kind` = 'trial'",
        "order_by": ["metrics.`dev_loss` ASC"],
    }
    answer = json.loads(get(f"{server.base}/api/2.0/mlflow/runs/search", body))
    assert [run["info"]["run_id"] for run in answer["runs"]] == store[2][::-1]


def test_artifacts_in_a_place_of_their_own_show(
    server: Server, store: tuple[str, str, list[str], Path]
) -> None:
    """Figures are shown although the experiment keeps its artifacts outside the server's folder."""
    url = f"{server.base}/get-artifact?path=figures%2Fnote.txt&run_uuid={store[2][0]}"
    assert get(url) == "trial 0"


def test_command_line_and_log_stay_private(
    server: Server, store: tuple[str, str, list[str], Path]
) -> None:
    """Other users of the machine see neither the store's URI nor the log."""
    shown = subprocess.run(  # a fixed command
        ["ps", "-ww", "-g", str(server.process.pid), "-o", "args="],  # any ps
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "server" in shown
    assert store[0] not in shown
    assert server.log.stat().st_mode & 0o077 == 0
    assert "Uvicorn running" in server.log.read_text()


def test_taken_port_is_avoided(server: Server) -> None:
    """Another server on port 5000 does not stop the UI."""
    assert urlsplit(server.base).port != 5000  # the port that is taken


def test_server_is_gone_after_the_context(
    store: tuple[str, str, list[str], Path], tmp_path: Path
) -> None:
    """The UI does not outlive its command, and Ctrl-C reaches it through its command alone."""
    with serve(store[0], None, log_folder=tmp_path) as running:
        group = running.process.pid
        assert os.getsid(group) == os.getpgid(group) == group
        assert is_open(running)
    assert not is_open(running)
    assert running.process.poll() is not None
    assert not is_alive(group)


def test_server_ends_with_its_killed_parent(
    store: tuple[str, str, list[str], Path], tmp_path: Path
) -> None:
    """A closed terminal or kill -9 leaves no server behind on the port."""
    code = (
        "import sys; from pathlib import Path; from mmsearch.tracking import ui\n"
        "wait = ui._wait_for_answer\n"
        "def tell(process, *rest):\n"
        "    print(process.pid, flush=True)\n"
        "    return wait(process, *rest)\n"
        "ui._wait_for_answer = tell\n"
        "with ui.serve(sys.argv[1], None, log_folder=Path(sys.argv[2])): input()\n"
    )
    with subprocess.Popen(  # our own code
        [sys.executable, "-c", code, store[0], str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_alive(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(group)


def test_store_that_cannot_be_opened_shows_the_log_without_the_password(tmp_path: Path) -> None:
    """A wrong URI is explained by the server's own words, and its password is in none of them."""
    with (
        pytest.raises(MMSearchError, match="ended with status") as caught,
        serve("nosuch://me:s%40cret@localhost/db", None, log_folder=tmp_path),
    ):
        pass
    (log,) = tmp_path.glob("mlflow-server-*.log")
    for text in (str(caught.value), log.read_text()):
        assert "nosuch://me:***@localhost/db" in text
        assert "cret" not in text.lower().replace("secret", "")
    assert str(log) in str(caught.value)


def test_silent_server_is_given_up(store: tuple[str, str, list[str], Path], tmp_path: Path) -> None:
    """Waiting is bounded."""
    with (
        pytest.raises(MMSearchError, match=r"did not answer within 0\.05 s"),
        serve(store[0], None, log_folder=tmp_path, timeout_s=0.05),
    ):
        pass


def test_another_server_on_the_port_is_not_taken_for_ours(server: Server) -> None:
    """Two that start at once find the same port free: a link must not open the other's store."""
    parts = urlsplit(server.base)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ours:
        problem = _wait_for_answer(ours, str(parts.hostname), int(parts.port or 0), 2, "ours")
        assert problem == "did not answer within 2 s"


def test_two_that_start_at_once_get_a_port_each(
    store: tuple[str, str, list[str], Path], tmp_path: Path
) -> None:
    """The one that comes second to its port tries another."""

    def start(name: str) -> ExitStack:
        with ExitStack() as stack:
            served = stack.enter_context(serve(store[0], None, log_folder=tmp_path / name))
            assert "<title>MLflow</title>" in get(served.base + "/")
            return stack.pop_all()

    with ThreadPoolExecutor(2) as pool:
        for stack in pool.map(start, ("first", "second")):
            stack.close()


def test_taken_port_is_refused_when_asked_for(tmp_path: Path) -> None:
    """A port that was named is not exchanged for another behind the person's back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port}"),
            serve("sqlite:////x.db", None, log_folder=tmp_path, port=port),
        ):
            pass


def test_tracking_server_is_not_served_again(tmp_path: Path) -> None:
    """A store that is an MLflow server has its UI already; its password is not repeated."""
    with (
        pytest.raises(InputError, match=r"https://me:\*\*\*@mlflow\.example is a server already"),
        serve("https://me:secret@mlflow.example", None, log_folder=tmp_path),
    ):
        pass


def test_leaderboard_link_opens_the_saved_view() -> None:
    """The link names the view alone, and does not land on MLflow's empty GenAI page."""
    url = leaderboard_url("http://127.0.0.1:5000", "7", "1f")
    path, query = url.split("?")
    assert path == "http://127.0.0.1:5000/#/experiments/7/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "viewStateShareKey": [view_key("1f")],
    }
    assert not set(" `'+\"") & set(url)


def test_compare_and_run_links() -> None:
    """The ids reach MLflow in the shapes that its router reads."""
    url = compare_url("http://h", "7", ["a", "b"])
    assert unquote(url) == 'http://h/#/compare-runs?runs=["a", "b"]&experiments=["7"]'
    query = "?workflowType=machine_learning"
    assert run_url("http://h", "7", "a") == f"http://h/#/experiments/7/runs/a{query}"
    page = "artifacts/figures/a b.png"
    expected = f"http://h/#/experiments/7/runs/a/artifacts/figures/a%20b.png{query}"
    assert run_url("http://h", "7", "a", page) == expected
