"""Signals: passed to the phase that runs, kept for the first one, and never silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mmsearch.search.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread says."""
    for _ in range(200):
        if holds():
            return
        time.sleep(0.02)
    pytest.fail("nothing was said within four seconds")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_phase_and_says_so(number: signal.Signals) -> None:
    """A person who presses Ctrl-C hears what it does."""
    said: list[str] = []
    stopped: list[str] = []
    before = signal.getsignal(number)
    with Interrupts(said.append) as interrupts:
        interrupts.phase(lambda: stopped.append("search"), "stopping the search")
        os.kill(os.getpid(), number)
        interrupts.phase(lambda: stopped.append("flush"), "leaving the rest")
        os.kill(os.getpid(), number)
    wait_until(lambda: len(said) == 2)
    assert stopped == ["search", "flush"]
    assert {line.split(";")[0] for line in said} == {"stopping the search", "leaving the rest"}
    assert signal.getsignal(number) is before


def test_signal_before_the_first_phase_stops_it() -> None:
    """Ctrl-C while everything starts is not forgotten."""
    said: list[str] = []
    stopped: list[str] = []
    with Interrupts(said.append) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stopped
        interrupts.phase(lambda: stopped.append("search"), "stopping")
    wait_until(lambda: len(said) == 1)
    assert stopped == ["search"]


def test_second_signal_ends_the_process_with_a_word() -> None:
    """Twice is at once, with exit code 130 and not in silence."""
    code = (
        "import os, signal\n"
        "from mmsearch.search.interrupts import Interrupts\n"
        "with Interrupts(lambda line: print(line, flush=True)) as interrupts:\n"
        "    interrupts.phase(lambda: None, 'stopping')\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "stopped at once" in done.stderr
    assert "still here" not in done.stdout
