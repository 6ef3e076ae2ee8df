"""Starts the MLflow UI over a tracking store, and links into it.

The links open what a plain experiment link hides: since MLflow 3 that one lands on an empty GenAI
page, and its run list folds the trials under their study.
"""

import errno
import http.client
import ipaddress
import json
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlencode

from mmsearch.errors import InputError, MMSearchError
from mmsearch.secrets import without_password, without_secrets
from mmsearch.tracking.mlflow.saved_view import ORDER, run_filter, view_key

__all__ = [
    "Server",
    "charts_url",
    "check_hosts",
    "compare_url",
    "leaderboard_url",
    "plain_url",
    "run_url",
    "serve",
]

_DEFAULT_PORT = 5000
_POLL_S = 0.1
_STOP_S = 5.0
_MAX_STARTS = 3
"""Ports that are tried where each is taken by others before our server has it."""
_TAIL_LINES = 15

# Would point the server at another store, move its pages away from "/", or let any page in.
_DROPPED_VARIABLES = (
    "MLFLOW_ARTIFACTS_ONLY",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE",
    "MLFLOW_STATIC_PREFIX",
)

_NAME_HEADER = "X-Mmsearch-Server"
_OWN_HOSTS = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[[]::1]:*")
"""What this machine's own browsers call it, at any port: a tunnel may end at another. In the last
one `[[]` is how a pattern spells `[`."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # a key
"""Addresses that stand for all of a machine's, and one of those."""
_ALLOWED_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_PORT = re.compile(r":\d+$")

# `python -m mlflow ARGS` that ends when its standard input does, which is when we are gone,
# however that came about: a closed terminal or kill -9 leaves no server behind on the port.
_CHILD = """
import os, runpy, signal, sys, threading
def follow_parent():
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
threading.Thread(target=follow_parent, daemon=True).start()
runpy.run_module("mlflow", run_name="__main__", alter_sys=True)
"""


def leaderboard_url(base: str, experiment_id: str, study_id: str, kind: str = "trial") -> str:
    """Link to a study's runs of a kind, the lowest dev loss first, by its saved view.

    The view alone says what is shown: a filter or an order in the link would take its columns.
    """
    query = _query(workflowType="machine_learning", viewStateShareKey=view_key(study_id, kind))
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs?{query}"


def plain_url(base: str, experiment_id: str, study_id: str) -> str:
    """Link to a study's trial runs, the lowest dev loss first, for an MLflow that reads no view."""
    query = _query(
        workflowType="machine_learning",
        searchFilter=run_filter(study_id),
        orderByKey=ORDER,
        orderByAsc="true",
    )
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs?{query}"


def charts_url(leaderboard: str) -> str:
    """Link to the charts of the same view as a leaderboard's link."""
    return f"{leaderboard}&{_query(compareRunsMode='CHART')}"


def compare_url(base: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Link to the page that lays the given runs side by side."""
    query = _query(runs=json.dumps(list(run_ids)), experiments=json.dumps([experiment_id]))
    return f"{base}/#/compare-runs?{query}"


def run_url(base: str, experiment_id: str, run_id: str, page: str = "") -> str:
    """Link to one run, or to a `page` of it: `model-metrics`, `artifacts/figures/loss.png`."""
    path = "/".join(quote(part, safe="") for part in (experiment_id, "runs", run_id))
    page = f"/{quote(page)}" if page else ""
    return f"{base}/#/experiments/{path}{page}?{_query(workflowType='machine_learning')}"


def _query(**values: str) -> str:
    return urlencode(values, quote_via=quote, safe="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """An MLflow server that answers."""

    base: str
    """Its URL, without a slash at the end."""
    elsewhere: tuple[str, ...]
    """Likewise, by the hosts that were allowed."""
    process: subprocess.Popen[bytes]
    """The server; the leader of its own process group."""
    log: Path
    """What it has written so far, without passwords."""


@contextmanager
def serve(  # noqa: PLR0913  # an address, a store, and where to write
    tracking_uri: str,
    artifacts: Path | None,
    *,
    log_folder: Path,
    host: str = "127.0.0.1",
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
    timeout_s: float = 120.0,
) -> Iterator[Server]:
    """Run an MLflow server over a database, for as long as the context lasts.

    The server runs in its own session, so that Ctrl-C reaches the caller alone, who leaves the
    context when it likes; then the server's whole process group is ended and waited for. It also
    ends when the calling process dies. The store's URI goes through the environment, not the
    command line, and its password is masked in the log.

    Args:
        tracking_uri: the database, such as `sqlite:////abs/mlflow.db`.
        artifacts: the folder for artifacts of new experiments that name no place of their own, and
            for clients that log over this server; None where the store keeps them elsewhere.
            Artifacts of experiments with a place of their own show either way.
        log_folder: gets the server's output as `mlflow-server-PORT.log`, readable by its owner.
        host: the address to listen on.
        port: the port to listen on; None for 5000, or another where that is taken.
        allowed_hosts: names by which browsers reach it, besides this machine's own for itself; a
            name without a port stands for the server's port and for none. The server has no
            password: a page of another name, whoever's address it leads to, is not answered.
        timeout_s: how long to wait for the first answer.

    Raises:
        InputError: `tracking_uri` is a server already, `port` is taken, or others may connect
            and no host is allowed.
        MMSearchError: the server ended, or did not answer in time; with the end of its log.
    """
    if tracking_uri.startswith(("http://", "https://")):
        raise InputError(f"{without_password(tracking_uri)} is a server already; open it")
    check_hosts(host, allowed_hosts)
    log_folder.mkdir(parents=True, exist_ok=True)
    start = partial(_start, tracking_uri, artifacts, log_folder, host, allowed_hosts, timeout_s)
    for _ in range(_MAX_STARTS):
        try:
            server, copier = start(_choose_port(host, port))
        except _PortTakenError:
            if port is not None:
                raise
        else:
            break
    else:
        server, copier = start(_choose_port(host, 0))
    try:
        yield server
    finally:
        _stop(server.process)
        copier.join(_STOP_S)


class _PortTakenError(MMSearchError):
    """Another process has taken the port since it was found free."""


def _start(  # noqa: PLR0913, PLR0917  # as above
    tracking_uri: str,
    artifacts: Path | None,
    log_folder: Path,
    host: str,
    allowed_hosts: Sequence[str],
    timeout_s: float,
    port: int,
) -> tuple[Server, threading.Thread]:
    """Start a server and wait until it answers; the thread copies its output."""
    log = log_folder / f"mlflow-server-{port}.log"
    name = secrets.token_hex(8)
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and arguments
        _command(host, port, artifacts, allowed_hosts, name),
        env=_environment(tracking_uri),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    assert process.stdout is not None  # noqa: S101  # asked for above
    copier = threading.Thread(
        target=_copy_log, args=(process.stdout, log, tail, tracking_uri), daemon=True
    )
    copier.start()
    reachable = _ANY_ADDRESS.get(host, host)
    try:
        problem = _wait_for_answer(process, reachable, port, timeout_s, name)
    except BaseException:
        _stop(process)
        raise
    if problem:
        _stop(process)
        copier.join(_STOP_S)
        lines = "\n".join(f"    {line}" for line in tail)
        kind = _PortTakenError if f"[Errno {errno.EADDRINUSE}]" in lines else MMSearchError
        raise kind(f"the MLflow server {problem}; the end of {log}:\n{lines}")
    shown = f"[{reachable}]" if ":" in reachable else reachable
    server = Server(
        base=f"http://{shown}:{port}",
        elsewhere=tuple(f"http://{_with_ports([each], port)[-1]}" for each in allowed_hosts),
        process=process,
        log=log,
    )
    return server, copier


def check_hosts(host: str, allowed: Sequence[str]) -> None:
    """Check that nobody else can connect, or that it was said by which names.

    Raises:
        InputError: no host is allowed, or a name is none.
    """
    if not _is_loopback(host) and not allowed:
        raise InputError(
            f"--host {host} lets other machines read and change everything in this store, without "
            "a password; name the hosts that browsers reach it by, such as --allowed-hosts "
            "box.example.org, or leave out --host"
        )
    for name in allowed:
        if not _ALLOWED_HOST.fullmatch(name):
            raise InputError(
                "--allowed-hosts takes names as a browser shows them, with a port or without, such "
                f"as box.example.org,10.0.0.7:5000; got {name!r}"
            )


def _is_loopback(host: str) -> bool:
    """Whether nobody but this machine's own users can connect to an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _command(
    host: str, port: int, artifacts: Path | None, allowed: Sequence[str], name: str
) -> list[str]:
    names = list(allowed)
    if host not in _ANY_ADDRESS:
        names.append(f"[{host}]" if ":" in host else host)
    names = _with_ports(names, port)
    # MLflow takes a page of its own, opened by a name that is not localhost, for another's.
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    command = [sys.executable, "-c", _CHILD, "server"]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    # Uvicorn looks for modules in the folder that we stand in, unless it is given another.
    options = ["--header", f"{_NAME_HEADER}:{name}", "--app-dir", sysconfig.get_path("stdlib")]
    command += ["--uvicorn-opts", shlex.join(options)]
    # MLflow's own list has `10.*`, and 10.evil.example is one of them.
    command += ["--allowed-hosts", ",".join((*_OWN_HOSTS, *names))]
    command += ["--cors-allowed-origins", ",".join(origins)]
    if artifacts is None:
        return [*command, "--no-serve-artifacts"]
    return [*command, "--artifacts-destination", artifacts.resolve().as_uri()]


def _with_ports(allowed: Sequence[str], port: int) -> list[str]:
    """Name each host as a browser may: with the server's port, or as it is behind a proxy."""
    return [
        spelt
        for name in allowed
        for spelt in ([name] if _PORT.search(name) else [name, f"{name}:{port}"])
    ]


def _environment(tracking_uri: str) -> dict[str, str]:
    kept = {name: v for name, v in os.environ.items() if name not in _DROPPED_VARIABLES}
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**defaults, **kept, "MLFLOW_BACKEND_STORE_URI": tracking_uri}


def _choose_port(host: str, port: int | None) -> int:
    wanted = _DEFAULT_PORT if port is None else port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (wanted, 0):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the server will: without it, a port stays taken for a minute after its last use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except (OSError, OverflowError) as error:
                if port is None and candidate:
                    continue
                msg = f"cannot listen on {host} port {port}: {error}; name another, or none"
                raise InputError(msg) from error
            return int(probe.getsockname()[1])
    raise AssertionError  # the last candidate either binds or raises


def _wait_for_answer(
    process: subprocess.Popen[bytes], host: str, port: int, timeout_s: float, name: str
) -> str | None:
    """Wait until the server of this name is up; otherwise say what went wrong.

    Another one may have taken the port since it was found free: its pages show another store.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with status {process.returncode} before it answered"
        # Straight to the host: urllib would ask a proxy named in the environment.
        with (
            suppress(OSError, http.client.HTTPException),
            closing(http.client.HTTPConnection(host, port, timeout=2)) as connection,
        ):
            connection.request("GET", "/health")
            answer = connection.getresponse()
            if answer.status == http.client.OK and answer.headers.get(_NAME_HEADER) == name:
                return None
        time.sleep(_POLL_S)
    return f"did not answer within {timeout_s:g} s"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server's process group and wait until none of it is left."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_S
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
            while time.monotonic() < deadline:
                process.poll()  # reaps the leader, whose group would exist as long as it
                os.killpg(process.pid, 0)
                time.sleep(_POLL_S / 2)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _copy_log(source: IO[bytes], log: Path, tail: deque[str], uri: str) -> None:
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    with source, log.open("w", encoding="utf-8") as target:
        for raw in source:
            line = without_secrets(raw.decode(errors="replace").rstrip("\n"), uri)
            tail.append(line)
            target.write(f"{line}\n")
            target.flush()
