"""The installed command, as tests of whole commands run it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

COMMAND = str(Path(sys.executable).with_name("mmsearch"))


class Mmsearch(Protocol):
    """Runs `mmsearch` as a user would."""

    def __call__(
        self, *words: object, env: Mapping[str, str] = ...
    ) -> subprocess.CompletedProcess[str]:
        """Run it with these arguments, to its end."""


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user who has set nothing, with `folder` as home.

    Matplotlib's list of fonts is shared, since it takes seconds to build.
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
