"""The MLflow UI's server shows the store to whom it should, and ends with its command."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.server import app as flask

from mmsearch.errors import InputError, MMSearchError
from mmsearch.tracking.mlflow.server import Server, check_hosts, serve
from tests.support.tracked_study import NewStore
from tests.support.waiting import wait_until

# In names of hosts PORT stands for the server's port.
OWN = ["localhost", "localhost:PORT", "127.0.0.1:PORT", "[::1]:PORT", "localhost:8888"]
FOREIGN = [
    "evil.example",
    "evil.example:PORT",
    "10.evil.example:PORT",
    "192.168.evil.example",
    "localhost.evil.example:PORT",
    "127.0.0.1.evil.example",
    "10.0.0.5:PORT",
    "",
]


@pytest.fixture(scope="module")
def store(
    new_store: NewStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, list[str]]:
    """Make a store with an experiment of two trials; returns its URI, experiment and runs."""
    folder = tmp_path_factory.mktemp("store")
    uri = new_store.copy(folder)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("theirs", (folder / "artifacts").as_uri())
    runs = []
    for number, loss in enumerate((2.3, 2.1)):
        run = client.create_run(experiment, run_name=str(number))
        client.log_metric(run.info.run_id, "dev_loss", loss)
        client.log_text(run.info.run_id, f"trial {number}", "figures/note.txt")
        runs.append(run.info.run_id)
    return uri, experiment, runs


@pytest.fixture(scope="module")
def server(
    store: tuple[str, str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve the store as `mmsearch ui` does, with port 5000 taken and variables of another."""
    with socket.socket() as taken, pytest.MonkeyPatch.context() as variables:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            taken.bind(("127.0.0.1", 5000))
            taken.listen()
        variables.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
        variables.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*")
        variables.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "*")
        variables.setenv("MLFLOW_DEPLOYMENTS_TARGET", "http://127.0.0.1:5000")
        variables.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")
        with serve(store[0], None, log_folder=tmp_path_factory.mktemp("logs")) as server:
            yield server


@pytest.fixture(scope="module")
def shared(
    store: tuple[str, str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve the store on every address, to browsers that know it by two names."""
    with serve(
        store[0],
        None,
        log_folder=tmp_path_factory.mktemp("logs"),
        host="0.0.0.0",  # noqa: S104 (what is tested)
        allowed_hosts=["box.example", "proxy.example:443"],
    ) as server:
        yield server


def with_port(name: str, server: Server) -> str:
    """Put the server's port in."""
    return name.replace("PORT", str(urlsplit(server.base).port))


def ask(  # noqa: PLR0913 (what a request has)
    server: Server,
    path: str,
    body: object = None,
    *,
    host: str = "",
    origin: str = "",
    method: str = "",
) -> tuple[int, str]:
    """Send a request, as a browser that knows the server by `host`; returns status and body."""
    parts = urlsplit(server.base)
    assert parts.hostname is not None
    headers = {"Host": with_port(host, server), "Content-Type": "application/json"}
    if origin:
        headers["Origin"] = with_port(origin, server)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as connection:
        content = None if body is None else json.dumps(body)
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def status(server: Server, host: str, origin: str = "") -> int:
    """Return the status of a search for experiments."""
    path = "/ajax-api/2.0/mlflow/experiments/search"
    return ask(server, path, {"max_results": 1}, host=host, origin=origin)[0]


def is_alive(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_server_shows_the_page_the_runs_and_their_artifacts(
    server: Server, store: tuple[str, str, list[str]]
) -> None:
    """Links find the page, runs in the leaderboard's order, and artifacts outside its folder."""
    _, experiment, runs = store
    assert "<title>MLflow</title>" in ask(server, "/", host="localhost")[1]
    body = {"experiment_ids": [experiment], "order_by": ["metrics.`dev_loss` ASC"]}
    _, answer = ask(server, "/api/2.0/mlflow/runs/search", body, host="localhost")
    assert [run["info"]["run_id"] for run in json.loads(answer)["runs"]] == runs[::-1]
    path = f"/get-artifact?path=figures%2Fnote.txt&run_uuid={runs[0]}"
    assert ask(server, path, host="localhost") == (200, "trial 0")
    assert urlsplit(server.base).port != 5000, "the port was taken"


def running(server: Server) -> str:
    """Return the command lines of the server's processes."""
    words = ["ps", "-ww", "-g", str(server.process.pid), "-o", "args="]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_command_line_and_log_stay_private(
    server: Server, store: tuple[str, str, list[str]]
) -> None:
    """Other users see neither the store's URI nor the log; no job of the database's is run."""
    shown = running(server)
    assert "server" in shown
    assert "jobs" not in shown, "whatever the environment asks for"
    assert store[0] not in shown
    assert server.log.stat().st_mode & 0o077 == 0
    assert "Uvicorn running" in server.log.read_text()


def test_own_names_are_answered_and_others_refused(server: Server) -> None:
    """A page whose name resolves to 127.0.0.1 (DNS rebinding) reads nothing; a tunnel works."""
    assert {host: status(server, host) for host in OWN} == dict.fromkeys(OWN, 200)
    assert {host: status(server, host) for host in FOREIGN} == dict.fromkeys(FOREIGN, 403)


OPEN = {
    *("", "artifacts", "build", "get-artifact", "graphql", "health", "mlflow-artifacts"),
    *("model-versions", "server-info", "static-files", "upload-artifact", "version"),
    *("datasets", "experiments", "logged-models", "metrics", "registered-models", "runs"),
    *("get-online-trace-details", "get-trace-artifact", "traces", "unified-traces"),
    *(
        "demo",
        "gateway-proxy",
        "issues",
        "label-schemas",
        "review-queues",
        "scorers",
        "ui-telemetry",
        "workspaces",
    ),
}
"""Kinds of MLflow's routes that are rows of the store, artifacts or the page itself."""


def routes() -> list[tuple[str, str]]:
    """Return the method and the path of every route that MLflow serves."""
    with warnings.catch_warnings(action="ignore"):  # Starlette's, of what MLflow uses
        from mlflow.server.fastapi_app import app  # noqa: PLC0415 (it warns)

    found = [
        (method, str(rule)) for rule in flask.url_map.iter_rules() for method in rule.methods or ()
    ]
    routers: list[tuple[Any, str]] = [(app, "")]
    for router, prefix in routers:
        for route in router.routes:
            if included := getattr(route, "original_router", None):
                routers.append((included, prefix + route.include_context.prefix))
            else:
                found += [(method, prefix + route.path) for method in getattr(route, "methods", ())]
    return sorted({(method, re.sub(r"[<{].*?[>}]", "1", path)) for method, path in found})


def test_what_a_viewer_of_runs_does_not_need_is_closed(server: Server) -> None:
    """Whoever reaches the port has no shell here, and no way to other services."""
    api = re.compile(r"/(ajax-)?api/[\d.]+/?(mlflow/)?|/")
    kinds = {path: api.sub("", path, count=1).partition("/")[0] for _, path in routes()}
    called = [
        (method, path)
        for method, path in routes()
        if kinds[path] not in OPEN or path.endswith("/invoke")
    ]
    # One that MLflow has only if OpenTelemetry's packages are there.
    called.append(("POST", "/v1/metrics"))
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda call: ask(server, call[1], {}, host="localhost:PORT", method=call[0]), called
        )
    assert {
        call for call, answer in zip(called, answers, strict=True) if answer != (404, "")
    } == set()

    text = (Path(__file__).parents[2] / "docs/security.md").read_text()
    rows = re.findall(r"^\| (`/.*?) \|", text, re.MULTILINE)
    told = {
        path.replace("{api,ajax-api}", api)
        for path in re.findall(r"`(.*?)`", " ".join(rows))
        for api in ("api", "ajax-api")
    }
    reached = {path: [p for _, p in called if f"{p}/".startswith(f"{path}/")] for path in told}
    assert [path for path, found in reached.items() if not found] == []
    assert {path for _, path in called} == {path for found in reached.values() for path in found}


def test_page_is_told_of_no_language_models(server: Server) -> None:
    """It asks, shows an empty error where that fails, and reaches no server by asking."""
    path = "/ajax-api/2.0/mlflow/gateway-proxy"
    for asked, body in ((f"{path}?gateway_path=api%2F2.0%2Fendpoints%2F", None), (path, {})):
        status, answer = ask(server, asked, body, host="localhost:PORT")
        assert (status, json.loads(answer)) == (200, {"endpoints": []})


def test_page_of_another_origin_changes_nothing(server: Server) -> None:
    """A browser sends such a request on behalf of any page; the server does not act on it."""
    assert status(server, "localhost:PORT", origin="https://evil.example") == 403
    assert status(server, "localhost:PORT", origin="http://localhost:PORT") == 200


def test_shared_server_answers_the_allowed_hosts_alone(shared: Server) -> None:
    """On every address it lets in the hosts that were named, and their pages' own calls."""
    for host, origin in (
        ("box.example", "https://box.example"),
        ("box.example:PORT", "http://box.example:PORT"),
        ("proxy.example:443", "https://proxy.example:443"),
        ("localhost:PORT", "http://localhost:PORT"),
    ):
        assert status(shared, host, origin=origin) == 200, host
    for host in ("evil.example", "box.example:1", "10.0.0.5:PORT", "proxy.example"):
        assert status(shared, host) == 403, host
        assert status(shared, "box.example", origin=f"http://{host}") == 403, host


def test_link_for_other_machines_has_the_allowed_name(shared: Server) -> None:
    """The printed link opens on the machine that it is for."""
    box, proxy = shared.elsewhere
    assert box == with_port("http://box.example:PORT", shared)
    assert proxy == "http://proxy.example:443"


def test_address_open_to_others_needs_allowed_hosts() -> None:
    """A store without a password is not opened to others by one option alone."""
    for host in ("0.0.0.0", "::", "10.0.0.7", "box.example", "", "127.0.0.1.evil"):  # noqa: S104 (what is tested)
        with pytest.raises(InputError, match="--allowed-hosts"):
            check_hosts(host, [])
        check_hosts(host, ["box.example"])
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        check_hosts(host, [])


def test_allowed_host_is_one_name() -> None:
    """A pattern would let in too much: `10.*` also matches 10.evil.example."""
    for name in ("*", "10.*", "*.example", "http://box.example", "a b", "box/", "box:x", "\n", ""):
        with pytest.raises(InputError):
            check_hosts("127.0.0.1", [name])


def test_server_ends_with_its_context_and_with_its_killed_parent(
    store: tuple[str, str, list[str]], tmp_path: Path
) -> None:
    """The UI outlives neither its command nor `kill -9`, and is in a session of its own."""
    with serve(store[0], None, log_folder=tmp_path) as running:
        group = running.process.pid
        assert os.getsid(group) == os.getpgid(group) == group
    assert not is_alive(group)

    code = (
        "import sys; from pathlib import Path; from mmsearch.tracking.mlflow.server import serve\n"
        "with serve(sys.argv[1], None, log_folder=Path(sys.argv[2])) as server:\n"
        "    print(server.process.pid, flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, store[0], str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(group))


def test_store_that_cannot_be_opened_shows_the_log_without_the_password(tmp_path: Path) -> None:
    """The server's own words explain a wrong URI, and contain no password."""
    with (
        pytest.raises(MMSearchError) as caught,
        serve("nosuch://me:s%40cret@localhost/db", None, log_folder=tmp_path),
    ):
        pass
    (log,) = tmp_path.glob("mlflow-server-*.log")
    for text in (str(caught.value), log.read_text()):
        assert "nosuch://me:***@localhost/db" in text
        assert "cret" not in text.lower().replace("secret", "")
    assert str(log) in str(caught.value)


def test_silent_server_is_given_up(store: tuple[str, str, list[str]], tmp_path: Path) -> None:
    """Waiting is bounded."""
    with (
        pytest.raises(MMSearchError, match=r"0\.05 s"),
        serve(store[0], None, log_folder=tmp_path, timeout_s=0.05),
    ):
        pass


def test_two_servers_that_start_at_once_get_a_port_each(
    store: tuple[str, str, list[str]], tmp_path: Path
) -> None:
    """Both find the same port free; the second to take it tries another."""

    def start(name: str) -> tuple[ExitStack, str]:
        with ExitStack() as stack:
            served = stack.enter_context(serve(store[0], None, log_folder=tmp_path / name))
            assert "<title>MLflow</title>" in ask(served, "/", host="localhost")[1]
            return stack.pop_all(), served.base

    with ThreadPoolExecutor(2) as pool:
        (first, one), (second, other) = pool.map(start, ("first", "second"))
    first.close()
    second.close()
    assert one != other


def test_taken_port_is_refused_when_asked_for(tmp_path: Path) -> None:
    """A port that the user named is not replaced by another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=str(port)),
            serve("sqlite:////x.db", None, log_folder=tmp_path, port=port),
        ):
            pass


def test_tracking_server_is_not_served_again(tmp_path: Path) -> None:
    """An MLflow server has its UI already; its password is not repeated."""
    with (
        pytest.raises(InputError, match=r"https://me:\*\*\*@mlflow\.example"),
        serve("https://me:secret@mlflow.example", None, log_folder=tmp_path),
    ):
        pass
