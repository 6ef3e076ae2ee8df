"""Passwords of databases and servers are used, and stand nowhere: whole commands, real servers."""

from __future__ import annotations

import base64
import http.client
import http.server
import subprocess
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from mmsearch.tracking.mlflow.server import serve
from tests.support.commands import COMMAND, environment
from tests.support.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.forked_cli import Done, Warm

PASSWORD = "hunter2@vault/9"  # noqa: S105 (of servers that this test starts)
WRONG = "letmein7@gate"
TOKEN = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
PIECES = ("hunter2", "vault", TOKEN, "letmein7", "gate/")


class Doorkeeper(http.server.BaseHTTPRequestHandler):
    """Lets those who know the password through to MLflow."""

    behind: str
    """Where MLflow is: host and port."""

    def _pass_on(self) -> None:
        if self.headers.get("Authorization") != f"Basic {TOKEN}":
            self._answer(401, b"who are you?", {"WWW-Authenticate": "Basic"})
            return
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "authorization"}}
        with closing(http.client.HTTPConnection(self.behind, timeout=60)) as mlflow:
            mlflow.request(self.command, self.path, content, kept)
            answer = mlflow.getresponse()
            kind = answer.headers.get("Content-Type", "text/plain")
            self._answer(answer.status, answer.read(), {"Content-Type": kind})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 (http.server's)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's)
        """Keep quiet."""


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an MLflow server behind a password; gives its host and port."""
    folder = tmp_path_factory.mktemp("server")
    with serve(f"sqlite:///{folder}/mlflow.db", folder / "artifacts", log_folder=folder) as mlflow:
        handler = type("Handler", (Doorkeeper,), {"behind": urlsplit(mlflow.base).netloc})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as door:
            threading.Thread(target=door.serve_forever, daemon=True).start()
            yield f"127.0.0.1:{door.server_port}"
            door.shutdown()
    assert_nowhere(folder)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Start a PostgreSQL that asks `me` for the password; gives what follows the user's part."""
    with postgres() as url, psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE me LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        (rules,) = owner.execute("SHOW hba_file").fetchone() or ("",)
        before = Path(rules).read_text()
        Path(rules).write_text("local all me scram-sha-256\n" + before)
        owner.execute("SELECT pg_reload_conf()")
        owner.execute("CREATE DATABASE mlflow")  # Optuna and MLflow cannot share one
        yield url.partition("@")[2]
        assert_not_told(_dump(owner))
        with psycopg.connect(url.replace("/postgres?", "/mlflow?")) as other:
            assert_not_told(_dump(other))


def _dump(owner: psycopg.Connection) -> str:
    """Give all that the tables of a database hold."""
    tables = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables
    return "\n".join(
        repr(owner.execute(psycopg.sql.SQL("SELECT * FROM {}").format(name)).fetchall())
        for name in (psycopg.sql.Identifier(str(table)) for (table,) in tables)
    )


def assert_not_told(*texts: str) -> None:
    """Hold that no text has a password, or a part of it."""
    for text in texts:
        assert not [piece for piece in PIECES if piece in text], text[-2000:]


def assert_nowhere(folder: Path) -> None:
    """Hold that no file has one, whatever its kind, and no name."""
    for path in folder.rglob("*"):
        assert_not_told(str(path))
        if path.is_file():
            content = path.read_bytes()
            assert not [piece for piece in PIECES if piece.encode() in content], path


def storage_at(database: str, password: str = PASSWORD) -> str:
    """Name the study's database."""
    return f"postgresql://me:{quote(password, safe='')}@{database}"


def tracking_at(host: str, password: str = PASSWORD) -> str:
    """Name the MLflow server."""
    return f"http://me:{quote(password, safe='')}@{host}"


@contextmanager
def watched(process: subprocess.Popen[str]) -> Iterator[dict[int, set[str]]]:
    """Note the command lines and the environments of all processes that one starts."""
    seen: dict[int, set[str]] = {}
    over = threading.Event()
    own = Path(f"/proc/{process.pid}/cmdline")

    def watch() -> None:
        while not over.wait(0.02):
            for pid in _descendants(process.pid):
                with suppress(OSError):  # it has ended
                    command, variables = (
                        Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", "environ")
                    )
                    # A copy of its parent, for a moment; read now, or it is the one before it was
                    # what it was started for.
                    if command != own.read_text():
                        seen.setdefault(pid, set()).update((command, variables))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _descendants(pid: int) -> Iterator[int]:
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from _descendants(int(child))


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    small_corpus: Path,
    database: str,
    tracking: str,
) -> Path:
    """Search four trials, kept behind passwords; what is started meanwhile is looked at."""
    folder = tmp_path_factory.mktemp("behind")
    words = ["run", "--corpus", str(small_corpus), "-n", "4", "--steps", "200", "--workers", "2"]
    places = ["--storage", storage_at(database), "--tracking-uri", tracking_at(tracking)]
    with (
        subprocess.Popen(
            [COMMAND, *words, *places],
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
        watched(process) as seen,
    ):
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "MLflow lacks" not in output
    assert_not_told(output)
    assert sum("spawn_main" in "".join(texts) for texts in seen.values()) >= 2
    for texts in seen.values():
        assert_not_told(*texts)
    return folder


def test_story_behind_passwords_tells_none(
    folder: Path, warm_command: Warm, database: str, tracking: str
) -> None:
    """From the search to the test, the passwords stand in no file, no output and no database."""
    mlflow = ("--tracking-uri", tracking_at(tracking))
    both = (*mlflow, "--storage", storage_at(database))
    for words in (
        ("confirm", "--top", 1, "--seeds", 1, *mlflow),
        ("final-test", *both),
        ("sync", *both),
        ("ui", "--no-browser", *mlflow),
        ("trials", "--json"),
    ):
        done = warm_command(*words, folder=folder)
        assert done.returncode == 0, (words[0], done.stderr)
        assert_not_told(done.stdout, done.stderr)
    assert (
        f"http://{tracking}/#/" in warm_command("ui", *mlflow, "--no-browser", folder=folder).stdout
    )
    assert_nowhere(folder)
    assert "postgresql://me:***@" in (folder / "runs/few/study.json").read_text()


def test_errors_tell_no_password(
    folder: Path, warm_command: Warm, database: str, tracking: str
) -> None:
    """A wrong password, one that was not given, and servers that are away: a line each."""
    right = {"--storage": storage_at(database), "--tracking-uri": tracking_at(tracking)}
    wrong = (
        {"--storage": storage_at(database, WRONG)},
        {"--storage": storage_at(database, WRONG).replace("%40", "@")},
        {"--storage": storage_at("/nothing?host=/nowhere")},
        {"--storage": storage_at("127.0.0.1:1/db")},
        {"--tracking-uri": tracking_at(tracking, WRONG)},
        {"--tracking-uri": tracking_at("127.0.0.1:1")},
        {"--tracking-uri": "http://me:hunter2@127.0.0.1:x/"},
    )
    for given in wrong:
        options = [word for pair in ({**right, **given}).items() for word in pair]
        done = warm_command("sync", *options, folder=folder)
        assert done.returncode in {1, 2}, (given, done.stdout)
        _assert_one_line(done)
    for command in ("sync", "final-test", "run", "ui"):
        done = warm_command(command, "--study", "few", folder=folder)
        assert done.returncode == 2, (command, done.stderr)
        _assert_one_line(done)
    assert_nowhere(folder)


def _assert_one_line(done: Done) -> None:
    assert_not_told(done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


def test_ui_over_a_database_tells_no_password(
    folder: Path, warm_command: Warm, database: str
) -> None:
    """Neither the server's log nor any command line has it, from its start to its end."""
    code = (
        "import subprocess, pathlib\n"
        "def wait(self, timeout=None):\n"
        "    lines = [p.read_bytes() for p in pathlib.Path('/proc').glob('[0-9]*/cmdline')]\n"
        "    pathlib.Path('lines').write_bytes(b'\\n'.join(lines))\n"
        "    return self.kill() or 0\n"
        "subprocess.Popen.wait = wait\n"
    )
    done = warm_command(
        *("ui", "--no-browser"),
        folder=folder,
        patch=code,
        MLFLOW_TRACKING_URI=storage_at(database.replace("/postgres?", "/mlflow?")),
    )
    assert "http://127.0.0.1:" in done.stdout, done.stderr
    assert_not_told(done.stdout, done.stderr)
    assert b"uvicorn" in (folder / "lines").read_bytes()
    assert list((folder / "runs/logs").glob("mlflow-server-*.log"))
    assert_nowhere(folder)
