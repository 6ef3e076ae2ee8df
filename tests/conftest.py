"""Fixtures that tests of several rooms share."""

import faulthandler
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import optuna
import pytest

from mmsearch.data.corpus import BUILTIN_CORPUS, Corpus, read_corpus
from mmsearch.data.split import Split, split_corpus
from mmsearch.tracking.journal.journal import Journal
from mmsearch.tracking.mlflow.tracker import StudyTracker
from tests.support import plain_settings
from tests.support.assertions import curves
from tests.support.build_once import build_once
from tests.support.commands import COMMAND, Mmsearch, environment
from tests.support.forked_cli import Warm, warm
from tests.support.reference_studies import SHORT, undisturbed
from tests.support.tracked_study import NewStore, Study

# Nothing is timed: a machine that is busy with other work is slow now and then.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

HANGS_S = 600
"""Seconds that a test may take; those marked long have no limit."""
_POSTGRESQL = re.compile(r"[_[]postgresql[]_]")
_HERE = Path(__file__).resolve().parent
_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DIVERGING = f"""
[training]
{plain_settings.TRAINING}
segments = 4
init = "article"
[space]
hidden_width = 32
{plain_settings.SPACE}
learning_rate = {{ low = 0.01, high = 1e30, log = true }}
[[enqueue]]
learning_rate = 1e30
"""


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands of tests that a shell script runs in its background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fault` what is in tests/faults or named for PostgreSQL; other tests mark themselves.

    The files in tests/faults, which take longest, come first, so that no worker ends late with one.
    """
    for item in items:
        if item.path.is_relative_to(_HERE / "faults") or _POSTGRESQL.search(item.name):
            item.add_marker(pytest.mark.fault)
    items.sort(key=lambda item: not item.path.is_relative_to(_HERE / "faults"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a test that hangs, and again each minute until it and its clean-up have ended."""

    def fail(*_: object) -> None:
        faulthandler.dump_traceback(2)  # a test may have replaced sys.stderr
        pytest.fail(f"hangs for {HANGS_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 0 if item.get_closest_marker("long") else HANGS_S, 60)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _shared(name: str) -> Path:
    path = _SHARED_DATA / name
    if not path.is_file():
        pytest.skip(f"../shared/data/{name} does not stand beside the repository")
    return path


@pytest.fixture(scope="session")
def ssa_source() -> Path:
    """Return the file that names.txt is made from."""
    return _shared("ssa_yob2018.txt")


@pytest.fixture(scope="session")
def reference_path() -> Path:
    """Return the file of the lecture's names (makemore, part 4)."""
    return _shared("makemore_names.txt")


@pytest.fixture(scope="session")
def reference(reference_path: Path) -> Corpus:
    """Read the lecture's names under its own protocol, with repeated lines kept."""
    return read_corpus(reference_path, keep_duplicates=True)


@pytest.fixture(scope="session")
def reference_split(reference: Corpus) -> Split:
    """Split them as the lecture does."""
    return split_corpus(reference, seed=42)


@pytest.fixture
def hangups() -> Iterator[None]:
    """Restore the default of SIGHUP, which processes ignore that are started under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def mmsearch(tmp_path: Path) -> Mmsearch:
    """Run the installed command in an empty folder."""

    def call(
        *words: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *map(str, words)],
            cwd=tmp_path,
            env=environment(tmp_path, env),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return call


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred of the built-in names: enough to train on, quick to read."""

    def build(folder: Path) -> None:
        words = BUILTIN_CORPUS.read_text().split()[:400]
        (folder / "few.txt").write_text("\n".join(words) + "\n")

    return build_once(tmp_path_factory, "corpus", build) / "few.txt"


@pytest.fixture(scope="session")
def warm_command() -> Iterator[Warm]:
    """Run commands without their start-up, in processes that may be killed."""
    with warm() as command:
        yield command


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm
) -> Path:
    """Search four trials; returns the folder that holds `runs`, to be copied before a change.

    What the search printed is in its file `printed.txt`.
    """

    def build(folder: Path) -> None:
        config = folder / "config.toml"
        config.write_text(
            f"[training]\nsegments = 4\n{plain_settings.TRAINING}"
            "[space]\nhidden_width = 32\nembedding_dim = { low = 2, high = 48, log = true }\n"
            "block_size = { low = 2, high = 10 }\n"
            f"learning_rate = {{ low = 0.01, high = 1, log = true }}\n{plain_settings.SPACE}"
            f'[search]\npruner = "none"\n{plain_settings.SEARCH}'
        )
        words = ("run", "--corpus", small_corpus, "--config", config, "-n", 4, "--steps", 400)
        done = warm_command(*words, "--workers", 1, folder=folder)
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    return build_once(tmp_path_factory, "searched", build)


@pytest.fixture
def copied(searched: Path, tmp_path: Path) -> Path:
    """Copy a searched workspace into the test's own folder."""
    shutil.copytree(searched / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture(scope="session")
def confirmed(tmp_path_factory: pytest.TempPathFactory, searched: Path, warm_command: Warm) -> Path:
    """Confirm the best two of the four trials, each from two seeds; to be copied before a change.

    What the confirmation printed is in its file `printed.txt`.
    """

    def build(folder: Path) -> None:
        shutil.copytree(searched / "runs", folder / "runs")
        words = ("confirm", "--top", 2, "--seeds", 2, "--workers", 1)
        done = warm_command(*words, folder=folder)
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    return build_once(tmp_path_factory, "confirmed", build)


@pytest.fixture
def reconfirmed(confirmed: Path, tmp_path: Path) -> Path:
    """Copy the confirmed workspace into the test's own folder."""
    shutil.copytree(confirmed / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture(scope="session")
def told(
    tmp_path_factory: pytest.TempPathFactory,
    confirmed: Path,
    small_corpus: Path,
    warm_command: Warm,
) -> Path:
    """Do with a study all that leaves something behind; it is not to be changed."""

    def build(folder: Path) -> None:
        shutil.copytree(confirmed / "runs", folder / "runs")
        (folder / "diverging.toml").write_text(DIVERGING)
        corpus, one = ("--corpus", small_corpus), ("-n", 1, "--workers", 1, "--steps", 400)
        for words in (
            ("extend", 0, "--steps", 100),
            ("final-test",),
            ("lr-range", "--study", "few", *corpus, "--steps", 100, "--seeds", 2),
            ("run", "--study", "odd", *corpus, "--config", "diverging.toml", *one),
        ):
            done = warm_command(*words, folder=folder)
            assert done.returncode == 0, (words, done.stderr)

    return build_once(tmp_path_factory, "told", build)


@pytest.fixture(scope="session")
def short(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm
) -> dict[int, Any]:
    """Return the trials of `SHORT`, searched without a fault."""
    folder = build_once(
        tmp_path_factory,
        "short",
        lambda folder: undisturbed(SHORT, folder, small_corpus, warm_command),
    )
    return curves(folder / "runs", "few")


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> NewStore:
    """Create a store as the first search of a workspace does."""

    def build(folder: Path) -> None:
        path = folder / "mlflow.db"
        existed: list[bool] = []

        @contextmanager
        def creating() -> Iterator[None]:
            existed.append(path.exists())
            yield
            existed.append(path.exists())

        facts, artifacts = Study(Journal(folder / "first")).facts, folder / "artifacts"
        uri = f"sqlite:///{path}"
        StudyTracker(uri=uri, facts=facts, artifacts=artifacts, creating=creating).open()
        (folder / "existed.json").write_text(json.dumps(existed))

    folder = build_once(tmp_path_factory, "new-store", build)
    return NewStore(folder / "mlflow.db", *json.loads((folder / "existed.json").read_text()))


@pytest.fixture(scope="session")
def empty_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tables of an Optuna storage, which takes as long as twenty trials."""

    def build(folder: Path) -> None:
        optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna.db").engine.dispose()

    return build_once(tmp_path_factory, "empty-storage", build) / "optuna.db"


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[[str], Study]:
    """Begin a study of a given name."""

    def make(name: str) -> Study:
        journal = Journal(tmp_path / name)
        journal.create()
        return Study(journal)

    return make


@pytest.fixture
def study(make_study: Callable[[str], Study], request: pytest.FixtureRequest) -> Study:
    """Begin a study named for the test, so that tests can share a store."""
    return make_study(request.node.name)


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> Iterator[None]:
    """Undo what a command run in this process sets for the whole of its thread."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
