"""Runs an MLflow server, and with it the UI, over a tracking store.

The server has no password. It listens on this machine alone unless the user names the hosts by
which browsers elsewhere reach it, and answers no request for any other host.
"""

from __future__ import annotations

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
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from mmsearch.errors import InputError, MMSearchError
from mmsearch.secrets import without_password, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DEFAULT_PORT = 5000
_POLL_S = 0.1
_STOP_S = 5.0
"""Seconds after SIGTERM and after SIGKILL to wait for the server's processes."""
_TAIL_LINES = 15
"""Lines of the log in an error message."""

_DROPPED_VARIABLES = (
    "MLFLOW_ARTIFACTS_ONLY",
    "MLFLOW_DEPLOYMENTS_TARGET",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE",
    "MLFLOW_STATIC_PREFIX",
)
"""Environment variables that lead to another store or path, or to language models, or that switch
protection off."""
_NAME_HEADER = "X-Mmsearch-Server"
"""Response header by which we recognise the server that we started."""
_OWN_HOSTS = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[[]::1]:*")
"""Hosts that are always allowed, at any port, since a tunnel may change it. They are patterns, in
which `[[]` stands for `[`."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (a key)
"""Addresses that stand for all of a machine's, with one that can be connected to."""
_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
"""Matches a host as a browser shows it, with or without a port."""

# Runs `python -m mlflow ARGS` until standard input ends, which is when the parent process does,
# even by kill -9.
_CHILD = """
import os, runpy, signal, sys, threading
def follow_parent():
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
threading.Thread(target=follow_parent, daemon=True).start()
runpy.run_module("mlflow", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """An MLflow server that answers."""

    base: str
    """URL of the server on this machine, without a trailing slash."""
    elsewhere: tuple[str, ...]
    """URLs of the server at the allowed hosts."""
    process: subprocess.Popen[bytes]
    """The server process, which leads a process group."""
    log: Path
    """Its output so far, with passwords masked."""


class _PortTakenError(InputError):
    """Another process listens on the port."""


@contextmanager
def serve(  # noqa: PLR0913 (an address, a store, and where to write)
    tracking_uri: str,
    artifacts: Path | None,
    *,
    log_folder: Path,
    host: str = "127.0.0.1",
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
    stored: tuple[str, str] | None = None,
    timeout_s: float = 120.0,
) -> Iterator[Server]:
    """Run an MLflow server while the context lasts, or until the calling process dies.

    The server has a session of its own, so that Ctrl-C reaches the caller alone. The URI reaches it
    through the environment, which other users cannot read, unlike a command line.

    Args:
        tracking_uri: the database, such as `sqlite:////abs/mlflow.db`.
        artifacts: folder for experiments without an artifact location, and for clients that log
            through this server; None where the store has its own.
        log_folder: gets the server's output as `mlflow-server-PORT.log`, readable by its owner.
        host: address to listen on.
        port: port to listen on; None for 5000, or a free one if that is taken.
        allowed_hosts: hosts that browsers elsewhere use. One without a port stands for the server's
            port and for none.
        stored: a key and a value that each browser's page finds in its own storage; None for none.
        timeout_s: seconds to wait for the first answer.

    Raises:
        InputError: `tracking_uri` is a server, the port is taken, or the hosts are not valid.
        MMSearchError: the server ended or did not answer in time; shows the end of its log.
    """
    if tracking_uri.startswith(("http://", "https://")):
        raise InputError(
            f"{without_password(tracking_uri)} is an MLflow server already; open it in a browser"
        )
    check_hosts(host, allowed_hosts)
    log_folder.mkdir(parents=True, exist_ok=True)
    for wanted in (_DEFAULT_PORT, 0) if port is None else (port,):
        try:
            free = _free_port(host, wanted)
            command = _Command(tracking_uri, artifacts, host, free, allowed_hosts, stored)
            server, copier = command.start(log_folder, timeout_s)
        except _PortTakenError:
            if wanted in {port, 0}:
                raise
        else:
            break
    try:
        yield server
    finally:
        _stop(server.process)
        copier.join(_STOP_S)


def check_hosts(host: str, allowed: Sequence[str]) -> None:
    """Check that other machines cannot connect, or that the hosts they use are named.

    Raises:
        InputError: no host is allowed, or one is not a host.
    """
    if not _is_loopback(host) and not allowed:
        raise InputError(
            f"--host {host} lets other machines read and change everything in this store, without "
            "a password; name the hosts that browsers reach it by, such as --allowed-hosts "
            "box.example.org, or leave out --host"
        )
    for name in allowed:
        if not _HOST.fullmatch(name):
            raise InputError(
                "--allowed-hosts takes hosts as a browser shows them, with or without a port, such "
                f"as box.example.org,10.0.0.7:5000; got {name!r}"
            )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _free_port(host: str, wanted: int) -> int:
    """Return the wanted port, or a free one for 0.

    Raises:
        InputError: there is no such address, or the port is out of range.
        _PortTakenError: the port is taken.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the server will: without it, a port stays taken for a minute after its last use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except (OSError, OverflowError) as error:
            is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            kind = _PortTakenError if is_taken else InputError
            raise kind(f"cannot listen on {host} port {wanted}: {error}; name another") from error
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class _Command:
    """How the server is started."""

    tracking_uri: str
    artifacts: Path | None
    host: str
    port: int
    allowed_hosts: Sequence[str]
    stored: tuple[str, str] | None

    def start(self, log_folder: Path, timeout_s: float) -> tuple[Server, threading.Thread]:
        """Start a server and wait until it answers; the thread copies its output."""
        log = log_folder / f"mlflow-server-{self.port}.log"
        name = secrets.token_hex(8)
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and arguments)
            self._arguments(name),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        assert process.stdout is not None  # noqa: S101 (asked for above)
        copier = threading.Thread(
            target=_copy_log, args=(process.stdout, log, tail, self.tracking_uri), daemon=True
        )
        copier.start()
        address = _ANY_ADDRESS.get(self.host, self.host)
        try:
            problem = _wait_for_answer(process, address, self.port, timeout_s, name)
        except BaseException:
            _stop(process)
            raise
        if problem:
            _stop(process)
            copier.join(_STOP_S)
            lines = "\n".join(f"    {line}" for line in tail)
            kind = _PortTakenError if f"[Errno {errno.EADDRINUSE}]" in lines else MMSearchError
            raise kind(f"the MLflow server {problem}; the end of {log}:\n{lines}", hint="")
        elsewhere = (_with_port(name, self.port) for name in self.allowed_hosts)
        server = Server(
            base=f"http://{_in_url(address)}:{self.port}",
            elsewhere=tuple(f"http://{name}" for name in elsewhere),
            process=process,
            log=log,
        )
        return server, copier

    def _arguments(self, name: str) -> list[str]:
        hosts = list(self.allowed_hosts)
        if self.host not in _ANY_ADDRESS:
            hosts.append(_in_url(self.host))
        # As behind a proxy, and with the server's port.
        hosts = [*dict.fromkeys(n for host in hosts for n in (host, _with_port(host, self.port)))]
        # MLflow takes its own page, opened by a name that is not localhost, for another site's.
        origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
        # Uvicorn looks for modules in the current folder, unless it is given another.
        uvicorn = ["--header", f"{_NAME_HEADER}:{name}", "--app-dir", sysconfig.get_path("stdlib")]
        arguments = [sys.executable, "-c", _CHILD, "server", "--app-name", "mmsearch"]
        arguments += ["--host", self.host, "--port", str(self.port), "--workers", "1"]
        arguments += ["--uvicorn-opts", shlex.join(uvicorn)]
        # MLflow's own list has `10.*`, which 10.evil.example matches.
        arguments += ["--allowed-hosts", ",".join((*_OWN_HOSTS, *hosts))]
        arguments += ["--cors-allowed-origins", ",".join(origins)]
        if self.artifacts is None:
            return [*arguments, "--no-serve-artifacts"]
        return [*arguments, "--artifacts-destination", self.artifacts.resolve().as_uri()]

    def _environment(self) -> dict[str, str]:
        return {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **{key: v for key, v in os.environ.items() if key not in _DROPPED_VARIABLES},
            "MLFLOW_BACKEND_STORE_URI": self.tracking_uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "MMSEARCH_COMPARED_VIEW": json.dumps(self.stored) if self.stored else "",
        }


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _with_port(host: str, port: int) -> str:
    """Add a port to a host that has none."""
    return host if re.search(r":\d+$", host) else f"{host}:{port}"


def _wait_for_answer(
    process: subprocess.Popen[bytes], address: str, port: int, timeout_s: float, name: str
) -> str | None:
    """Wait until the server with this name in its header answers; return what went wrong, if so.

    Another process may have taken the port meanwhile: its pages would show another store.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with status {process.returncode} before it answered"
        # Not by urllib, which would use a proxy from the environment.
        with (
            suppress(OSError, http.client.HTTPException),
            closing(http.client.HTTPConnection(address, port, timeout=2)) as connection,
        ):
            connection.request("GET", "/health")
            answer = connection.getresponse()
            if answer.status == http.client.OK and answer.headers.get(_NAME_HEADER) == name:
                return None
        time.sleep(_POLL_S)
    return f"did not answer within {timeout_s:g} s"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server's process group, and wait until none of its processes is left."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_S
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
            while time.monotonic() < deadline:
                process.poll()  # reaps the leader, which its group would otherwise outlive
                os.killpg(process.pid, 0)
                time.sleep(_POLL_S / 2)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _copy_log(source: IO[bytes], log: Path, tail: deque[str], uri: str) -> None:
    """Copy the server's output to its log, line by line, with passwords masked."""
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    with source, log.open("w", encoding="utf-8") as target:
        for raw in source:
            line = without_secrets(raw.decode(errors="replace").rstrip("\n"), uri)
            tail.append(line)
            target.write(f"{line}\n")
            target.flush()
