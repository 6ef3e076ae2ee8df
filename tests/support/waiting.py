"""Waits for what another thread or process does."""

import time
from collections.abc import Callable

PATIENCE_S = 180.0
"""How long a test waits before it fails."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s in vain"
        time.sleep(0.02)
