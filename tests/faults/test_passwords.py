"""Passwords of databases and servers are used and stored nowhere: whole commands, real servers."""

import base64
import http.client
import http.server
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from mmsearch.tracking.mlflow.server import serve
from tests.support.assertions import children_of
from tests.support.commands import COMMAND, environment
from tests.support.fault_injection import STOP_SERVER, WAIT_FOR_CHILD, replaced
from tests.support.forked_cli import Warm
from tests.support.postgres import postgres

PASSWORD = "hunter2@vault/9"  # noqa: S105 (of servers that this test starts)
WRONG = "letmein7@gate"
TOKEN = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
PIECES = ("hunter2", "vault", TOKEN, "letmein7", "gate/")


class Doorkeeper(http.server.BaseHTTPRequestHandler):
    """Passes requests with the password on to MLflow."""

    behind: str
    """Host and port of MLflow."""

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
        """Log nothing."""


def assert_hidden(*texts: str) -> None:
    """Check that no text contains a password, or a part of one."""
    for text in texts:
        assert not [piece for piece in PIECES if piece in text], text[-2000:]


def assert_nowhere(folder: Path) -> None:
    """Check that no file in a folder contains one, in its name or content."""
    for path in folder.rglob("*"):
        assert_hidden(str(path), path.read_bytes().decode("latin-1") if path.is_file() else "")


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an MLflow server behind a password; returns its host and port."""
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
    """Start PostgreSQL with a password for `me`; returns the URL's part after the user's."""
    with postgres() as url, psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE me LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        (rules,) = owner.execute("SHOW hba_file").fetchone() or ("",)
        before = Path(rules).read_text()
        Path(rules).write_text("local all me scram-sha-256\n" + before)
        owner.execute("SELECT pg_reload_conf()")
        owner.execute("CREATE DATABASE mlflow")  # Optuna and MLflow cannot share one
        yield url.partition("@")[2]
        assert_hidden(_dump(owner))
        with psycopg.connect(url.replace("/postgres?", "/mlflow?")) as other:
            assert_hidden(_dump(other))


def _dump(owner: psycopg.Connection) -> str:
    """Return the content of all tables of a database."""
    tables = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables
    return "\n".join(
        repr(owner.execute(psycopg.sql.SQL("SELECT * FROM {}").format(name)).fetchall())
        for name in (psycopg.sql.Identifier(str(table)) for (table,) in tables)
    )


def storage_at(database: str, password: str = PASSWORD) -> str:
    """Return the URL of the study's database."""
    return f"postgresql://me:{quote(password, safe='')}@{database}"


def tracking_at(host: str, password: str = PASSWORD) -> str:
    """Return the URL of the MLflow server."""
    return f"http://me:{quote(password, safe='')}@{host}"


@contextmanager
def watched(process: subprocess.Popen[str]) -> Iterator[dict[int, str]]:
    """Collect the command lines and environments of all processes that one starts."""
    seen: dict[int, str] = {}
    is_over = threading.Event()
    own = Path(f"/proc/{process.pid}/cmdline")

    def look_at(pid: int) -> None:
        for child in children_of(pid):
            look_at(child)
            with suppress(OSError):  # it has ended
                command, variables = (
                    Path(f"/proc/{child}/{name}").read_text() for name in ("cmdline", "environ")
                )
                # Between fork and exec a process still has the command line of its parent.
                if command != own.read_text():
                    seen[child] = f"{seen.get(child, '')}{command}{variables}"

    def watch() -> None:
        while not is_over.wait(0.05):
            look_at(process.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, database: str, tracking: str
) -> Path:
    """Search two trials in stores behind passwords, watching every process."""
    folder = tmp_path_factory.mktemp("behind")
    words = ["run", "--corpus", str(small_corpus), "-n", "2", "--steps", "200", "--workers", "2"]
    urls = ["--storage", storage_at(database), "--tracking-uri", tracking_at(tracking)]
    with (
        subprocess.Popen(
            [COMMAND, *words, *urls],
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
    assert "mmsearch sync" not in output
    assert sum("spawn_main" in text for text in seen.values()) >= 2
    assert_hidden(output, *seen.values())
    return folder


def test_commands_store_and_print_no_password(
    folder: Path, warm_command: Warm, database: str, tracking: str
) -> None:
    """From the search to the test, passwords are in no file, no output and no database."""
    mlflow = ("--tracking-uri", tracking_at(tracking))
    both = (*mlflow, "--storage", storage_at(database))
    for words in (
        ("confirm", "--top", 1, "--seeds", 1, *mlflow),
        ("final-test", *both),
        ("sync", *both),
        ("trials", "--json"),
        ("ui", "--no-browser", *mlflow),
    ):
        done = warm_command(*words, folder=folder, code=0)
        assert_hidden(done.stdout, done.stderr)
    assert f"http://{tracking}/#/" in done.stdout
    assert_nowhere(folder)
    assert "postgresql://me:***@" in (folder / "runs/few/study.json").read_text()


def test_errors_show_no_password(
    folder: Path, warm_command: Warm, database: str, tracking: str
) -> None:
    """A wrong password, a missing one, and servers that are down: no traceback, no password."""
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
    commands = [
        ("sync", *(word for pair in ({**right, **given}).items() for word in pair))
        for given in wrong
    ]
    commands += [(name, "--study", "few") for name in ("sync", "final-test", "run", "ui")]
    for words in commands:
        done = warm_command(*words, folder=folder)
        assert done.returncode in {1, 2}, (words, done.stdout)
        assert "Traceback" not in done.stderr
        assert_hidden(done.stdout, done.stderr)
    assert_nowhere(folder)


def test_ui_over_a_database_shows_no_password(
    folder: Path, warm_command: Warm, database: str
) -> None:
    """Neither the server's log nor any command line contains it."""
    note = (
        "lambda self, timeout=None: __import__('pathlib').Path('lines').write_bytes(b''.join("
        "p.read_bytes() for p in __import__('pathlib').Path('/proc').glob('[0-9]*/cmdline')))"
        " and real(self, timeout)"
    )
    done = warm_command(
        *("ui", "--no-browser"),
        folder=folder,
        patch=STOP_SERVER + replaced(WAIT_FOR_CHILD, note),
        MLFLOW_TRACKING_URI=storage_at(database.replace("/postgres?", "/mlflow?")),
    )
    assert "http://127.0.0.1:" in done.stdout, done.stderr
    assert_hidden(done.stdout, done.stderr)
    assert b"uvicorn" in (folder / "lines").read_bytes()
    assert list((folder / "runs/logs").glob("mlflow-server-*.log"))
    assert_nowhere(folder)
