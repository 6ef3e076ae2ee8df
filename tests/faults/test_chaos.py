"""Studies whose processes are killed again and again end as if undisturbed."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.assertions import (
    assert_gone,
    assert_same_everywhere,
    children_of,
    curves,
    n_segments,
    start,
    workers_of,
)
from tests.support.forked_cli import Warm
from tests.support.reference_studies import LONG, PATIENCE_S, SHORT, Study, undisturbed


@dataclass(slots=True)
class Storm:
    """A search that is killed and restarted by the same command, at moments from a seed."""

    folder: Path
    words: list[object]
    moments: random.Random
    process: subprocess.Popen[str]
    n_starts: int = 1

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds while the search runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def kill_worker(self) -> None:
        """Kill the oldest worker, even while it starts."""
        self.wait(lambda: workers_of(self.process.pid))
        oldest = min(workers_of(self.process.pid), key=_start_time)
        os.kill(oldest, signal.SIGKILL)

    def kill_coordinator(self) -> None:
        """Kill the search alone, check that its workers end by themselves, and run it again."""
        children = children_of(self.process.pid)
        self.process.kill()
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == -signal.SIGKILL, output
        assert_gone(children)
        self.process = start(self.folder, *self.words)
        self.n_starts += 1

    def rage(self, n_worker_kills: int, n_coordinator_kills: int, n_lines: int) -> None:
        """Kill so often, spread over the `n_lines` segments of the study; then let it end."""
        kills = [self.kill_worker] * n_worker_kills + [self.kill_coordinator] * n_coordinator_kills
        self.moments.shuffle(kills)
        at_least, is_patient = 0, False
        for nth, kill in enumerate(kills):
            is_patient = not is_patient or self.moments.random() < 1 / 2
            if is_patient:
                at_least = max(at_least, n_lines * nth // len(kills)) + 1
                self.wait(lambda: n_segments(self.folder / "runs/few") >= at_least)  # noqa: B023 (called at once)
            # Otherwise no segment need have ended since, and the kill mostly falls into a start.
            time.sleep(self.moments.uniform(0, 0.1 if is_patient else 2))
            assert self.process.poll() is None, "the study was over before it was killed"
            kill()
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, output
        assert self.n_starts == n_coordinator_kills + 1


def _start_time(pid: int) -> int:
    """Return when a process was started, in the kernel's ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def check_storm(  # noqa: PLR0913 (what, where, and how often)
    study: Study,
    folder: Path,
    corpus: Path,
    expected: dict[int, Any],
    *,
    seed: int,
    kills: tuple[int, int],
) -> None:
    """Kill workers and coordinators so often, and compare with the undisturbed study."""
    words = study.words(folder, corpus)
    storm = Storm(folder, words, random.Random(seed), start(folder, *words))  # noqa: S311 (not a secret)
    n_lines = sum(len(curve) for _, _, curve in expected.values())
    try:
        storm.rage(*kills, n_lines)
    finally:
        storm.process.kill()
    assert_same_everywhere(folder / "runs", "few", study.n_trials)
    assert curves(folder / "runs", "few") == expected


def test_search_killed_at_random_moments_ends_as_if_undisturbed(
    tmp_path: Path, small_corpus: Path, short: dict[int, Any]
) -> None:
    """Killed workers and coordinators cost time, and change no trial, state or number."""
    assert {state for _, state, _ in short.values()} == {"COMPLETE", "PRUNED", "FAIL"}
    check_storm(SHORT, tmp_path, small_corpus, short, seed=20_261_125, kills=(1, 2))


@pytest.fixture(scope="module")
def calm(
    tmp_path_factory: pytest.TempPathFactory, small_corpus: Path, warm_command: Warm
) -> dict[int, Any]:
    """Return the undisturbed result of a study of thirty trials."""
    return undisturbed(LONG, tmp_path_factory.mktemp("calm"), small_corpus, warm_command)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_thirty_trials_survive_ten_dead_workers_and_five_dead_searches(
    tmp_path: Path, small_corpus: Path, calm: dict[int, Any], seed: int
) -> None:
    """The same at length: thirty trials, and other moments for each seed."""
    check_storm(LONG, tmp_path, small_corpus, calm, seed=seed, kills=(10, 5))
