"""Studies that tests of several folders share: each is searched once."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support import plain_settings
from tests.support.build_once import build_once

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.forked_cli import Warm

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
            ("final-test",),
            ("lr-range", "--study", "few", *corpus, "--steps", 100, "--seeds", 2),
            ("run", "--study", "odd", *corpus, "--config", "diverging.toml", *one),
        ):
            done = warm_command(*words, folder=folder)
            assert done.returncode == 0, (words, done.stderr)

    return build_once(tmp_path_factory, "told", build)
