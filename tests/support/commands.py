"""The installed command, as tests of whole commands run it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

COMMAND = str(Path(sys.executable).with_name("mmsearch"))


class Mmsearch(Protocol):
    """Runs `mmsearch` as a person would."""

    def __call__(
        self, *words: object, env: Mapping[str, str] = ...
    ) -> subprocess.CompletedProcess[str]:
        """Run it with these words, to its end."""


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a person who has set nothing, with a home in `folder`.

    Matplotlib's list of fonts alone is shared: it takes seconds to make.
    """
    fonts = Path(tempfile.gettempdir()) / "mmsearch-tests-matplotlib"
    dropped = ("MLFLOW_", "MMSEARCH_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {
        **kept,
        "HOME": str(folder),
        "COLUMNS": "80",
        "MPLCONFIGDIR": str(fonts),
        **(extra or {}),
    }
