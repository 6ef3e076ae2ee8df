"""What tests of whole commands share."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from mmsearch.data.corpus import BUILTIN_CORPUS
from tests.commands import COMMAND, Mmsearch, environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
