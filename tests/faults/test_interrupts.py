"""Signals stop the current phase with a message; a second one ends the process at once."""

import os
import signal
import subprocess
import sys

import pytest

from mmsearch.search.execution.interrupts import Interrupts
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("hangups")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_the_phase_and_says_so(number: signal.Signals) -> None:
    """The user who presses Ctrl-C is told what it does."""
    said: list[str] = []
    stopped: list[str] = []
    before = signal.getsignal(number)
    with Interrupts(said.append) as interrupts:
        interrupts.phase(lambda: stopped.append("search"), "stopping the search")
        os.kill(os.getpid(), number)
        interrupts.phase(lambda: stopped.append("flush"), "leaving the rest")
        os.kill(os.getpid(), number)
    wait_until(lambda: len(said) == 2)
    assert interrupts.exit_code == 128 + number
    assert stopped == ["search", "flush"]
    assert {line.split(";")[0] for line in said} == {"stopping the search", "leaving the rest"}
    assert signal.getsignal(number) is before


def test_signal_before_the_first_phase_stops_it() -> None:
    """Ctrl-C while everything starts is kept for the first phase."""
    said: list[str] = []
    stopped: list[str] = []
    with Interrupts(said.append) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stopped
        interrupts.phase(lambda: stopped.append("search"), "stopping")
    wait_until(lambda: len(said) == 1)
    assert stopped == ["search"]


def run(first: int, second: int) -> subprocess.CompletedProcess[str]:
    """Send two signals to a process, which prints `still here` if it survives both."""
    code = (
        "import os\n"
        "from mmsearch.search.execution.interrupts import Interrupts\n"
        "with Interrupts(lambda line: print(line, flush=True)) as interrupts:\n"
        "    interrupts.phase(lambda: None, 'stopping')\n"
        f"    os.kill(os.getpid(), {int(first)})\n"
        f"    os.kill(os.getpid(), {int(second)})\n"
        "    print('still here')\n"
        "raise SystemExit(interrupts.exit_code)\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_process_with_a_word(second: signal.Signals) -> None:
    """It has the exit code of the second signal, and a message."""
    done = run(signal.SIGINT, second)
    assert done.returncode == 128 + second
    assert done.stderr.strip()
    assert "still here" not in done.stdout


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_hangup_is_no_second_signal(first: signal.Signals) -> None:
    """When a terminal closes, the kernel and the shell send one each."""
    done = run(first, signal.SIGHUP)
    assert done.returncode == 128 + first
    assert "still here" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """A search started with nohup survives its terminal, one in a script's background a Ctrl-C."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts(lambda _: None) as interrupts:
            interrupts.phase(lambda: pytest.fail("stopped"), "stopping")
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
