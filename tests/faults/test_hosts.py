"""Who may talk to the UI's server: this machine's own browsers, and the hosts that were named."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from mmsearch.errors import InputError
from mmsearch.tracking.mlflow.server import Server, check_hosts, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.tracked_study import NewStore

SEARCH = "/ajax-api/2.0/mlflow/experiments/search"
# Of each the server's port is put in the place of PORT.
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
def private(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a store as `mmsearch ui` does, whatever was set for another server."""
    logs = tmp_path_factory.mktemp("logs")
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
        variables.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*")
        variables.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "*")
        with serve(f"sqlite:///{new_store.path}", None, log_folder=logs) as server:
            yield server


@pytest.fixture(scope="module")
def shared(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve it on every address, to browsers that know it by two names."""
    with serve(
        f"sqlite:///{new_store.path}",
        None,
        log_folder=tmp_path_factory.mktemp("logs"),
        host="0.0.0.0",  # noqa: S104 (what is tested)
        allowed_hosts=["box.example", "proxy.example:443"],
    ) as server:
        yield server


def status(server: Server, host: str, *, origin: str | None = None, path: str = SEARCH) -> int:
    """Ask the server by a name of it, from a page of an origin; its answer's status."""
    parts = urlsplit(server.base)
    assert parts.hostname is not None
    headers = {"Host": with_port(host, server), "Content-Type": "application/json"}
    if origin is not None:
        headers["Origin"] = with_port(origin, server)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)) as connection:
        connection.request("POST", path, json.dumps({"max_results": 1}), headers)
        return connection.getresponse().status


def with_port(name: str, server: Server) -> str:
    """Put the server's port in."""
    return name.replace("PORT", str(urlsplit(server.base).port))


@pytest.mark.parametrize("host", OWN)
def test_own_names_are_answered(private: Server, host: str) -> None:
    """Also at another port, where a tunnel ends."""
    assert status(private, host) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_forged_host_is_refused(private: Server, host: str) -> None:
    """A page whose name has been led to 127.0.0.1 (DNS rebinding) reads nothing."""
    assert status(private, host) == 403


def test_page_of_another_origin_changes_nothing(private: Server) -> None:
    """A browser sends such a request with whatever it may send; the server does not act on it."""
    assert status(private, "localhost:PORT", origin="https://evil.example") == 403
    assert status(private, "localhost:PORT", origin="http://localhost:PORT") == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("box.example", "https://box.example"),
        ("box.example:PORT", "http://box.example:PORT"),
        ("proxy.example:443", "https://proxy.example:443"),
        ("localhost:PORT", "http://localhost:PORT"),
    ],
)
def test_allowed_host_gets_a_page_that_works(shared: Server, host: str, origin: str) -> None:
    """The UI's own calls come from a page of that name."""
    assert status(shared, host, origin=origin) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "box.example:1", "10.0.0.5:PORT", "proxy.example"]
)
def test_every_other_host_is_refused(shared: Server, host: str) -> None:
    """Listening on every address lets in who was named, and nobody else."""
    assert status(shared, host) == 403
    assert status(shared, "box.example", origin=f"http://{host}") == 403


def test_link_for_other_machines_has_the_allowed_name(shared: Server) -> None:
    """What is printed is what opens there."""
    box, proxy = shared.elsewhere
    assert box == with_port("http://box.example:PORT", shared)
    assert proxy == "http://proxy.example:443"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "box.example", "", "127.0.0.1.evil"])  # noqa: S104 (what is tested)
def test_open_address_needs_allowed_hosts(host: str) -> None:
    """Nobody opens a store without a password to others by one word."""
    with pytest.raises(InputError, match="--allowed-hosts"):
        check_hosts(host, [])
    check_hosts(host, ["box.example"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_own_address_needs_none(host: str) -> None:
    """What only this machine reaches is as it was."""
    check_hosts(host, [])


@pytest.mark.parametrize(
    "name", ["*", "10.*", "*.example", "http://box.example", "a b", "box/", "box:x", "a\nb", ""]
)
def test_allowed_host_is_one_name(name: str) -> None:
    """A pattern would let in what nobody thought of: `10.*` is also 10.evil.example."""
    with pytest.raises(InputError, match="takes names as a browser shows them"):
        check_hosts("127.0.0.1", [name])
