"""What tests of whole commands share."""

from __future__ import annotations

import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from mmsearch.data.corpus import BUILTIN_CORPUS
from tests.commands import COMMAND, Mmsearch, environment
from tests.search import plain
from tests.search.studies import SHORT, undisturbed
from tests.warm import Warm, warm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture
def hangups() -> Iterator[None]:
    """Let SIGHUP be heard by what a test starts; under nohup the tests themselves ignore it."""
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
    path = tmp_path_factory.mktemp("corpus") / "few.txt"
    path.write_text("\n".join(BUILTIN_CORPUS.read_text().split()[:400]) + "\n")
    return path


@pytest.fixture(scope="session")
def warm_command() -> Iterator[Warm]:
    """Run commands without their start-up, in processes that may be killed."""
    with warm() as command:
        yield command


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm
) -> Path:
    """Search four trials; the folder that holds `runs`, to be copied by who changes it."""
    folder = tmp_path_factory.mktemp("searched")
    config = folder / "config.toml"
    config.write_text(
        f"[training]\nsegments = 4\n{plain.TRAINING}"
        "[space]\nhidden_width = 32\nembedding_dim = { low = 2, high = 48, log = true }\n"
        "block_size = { low = 2, high = 10 }\n"
        f"learning_rate = {{ low = 0.01, high = 1, log = true }}\n{plain.SPACE}"
        f'[search]\npruner = "none"\n{plain.SEARCH}'
    )
    words = ("run", "--corpus", small_corpus, "--config", config, "-n", 4, "--steps", 400)
    done = warm_command(*words, "--workers", 2, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(searched: Path, tmp_path: Path) -> Path:
    """Give a test a searched workspace of its own."""
    shutil.copytree(searched / "runs", tmp_path / "runs")
    return tmp_path


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> dict[int, Any]:
    """Give what the short study of `studies.py` comes to when nobody disturbs it."""
    return undisturbed(SHORT, tmp_path_factory.mktemp("short"), small_corpus)
