"""What every executor does, whose workers are processes here or those of a Dask cluster."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from mmsearch.data.corpus import Vocabulary
from mmsearch.data.split import Words
from mmsearch.model.spec import TrialSpec
from mmsearch.model.training import DivergedError
from mmsearch.search.execution import worker
from mmsearch.search.execution.executor import SegmentExecutor, WorkerDiedError, make_executor
from tests.support.dask_cluster import pid_after
from tests.support.specs import make_spec
from tests.support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.dask_cluster import DaskCluster

WORDS = Words(("emma", "ava"), ("olivia",), Vocabulary.of("emmaavaolivia"))


@pytest.fixture(params=["processes", "cluster", "threads of a cluster"])
def executor(request: pytest.FixtureRequest) -> Iterator[SegmentExecutor]:
    """Make each executor with two slots."""
    workers: int | str = 2
    if request.param != "processes":
        cluster: DaskCluster = request.getfixturevalue("cluster")
        workers = cluster.address
        n_threads = 1 if request.param == "cluster" else 2
        for _ in range(2 // n_threads):
            cluster.start_worker(n_threads=n_threads)
    with make_executor(workers, WORDS, print) as made:
        made.start()
        made.check()
        wait_until(lambda: made.n_slots() == 2)
        yield made


def test_calls_return_and_raise_as_in_any_executor(executor: SegmentExecutor) -> None:
    """Errors keep the line that raised them; what cannot be sent back fails its call alone."""
    assert executor.submit(divmod, 7, 2).result(PATIENCE_S) == (3, 1)
    assert executor.submit(int, "ff", base=16).result(PATIENCE_S) == 255
    assert list(executor.map(abs, [-1, -2])) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 7, 0).result(PATIENCE_S)
    with pytest.raises(json.JSONDecodeError) as caught:
        executor.submit(json.loads, "[").result(PATIENCE_S)
    assert "in raw_decode" in caught.value.__notes__[0]
    with pytest.raises(Exception, match=r"pickle|serialize"):
        executor.submit(repr, threading.Lock()).result(PATIENCE_S)
    with pytest.raises(Exception, match=r"pickle|serialize"):
        executor.submit(threading.Lock).result(PATIENCE_S)
    assert executor.submit(abs, -1).result(PATIENCE_S) == 1


@pytest.mark.parametrize("executor", ["processes", "cluster"], indirect=True)
def test_killed_worker_fails_its_own_call_alone(
    executor: SegmentExecutor, request: pytest.FixtureRequest
) -> None:
    """A worker that runs out of memory costs one segment; the other segments go on."""
    other = executor.submit(pid_after, 1)
    killed = executor.submit(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        killed.result(PATIENCE_S)
    first = other.result(PATIENCE_S)
    if "cluster" in request.node.name:
        request.getfixturevalue("cluster").start_worker()
    wait_until(lambda: executor.n_slots() == 2)
    both = [executor.submit(pid_after, 1) for _ in range(2)]
    pids = {call.result(PATIENCE_S) for call in both}
    assert len(pids) == 2
    assert first in pids


def test_short_calls_never_wait_behind_a_long_one(
    executor: SegmentExecutor, tmp_path: Path
) -> None:
    """Each slot takes one call at a time."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    long_call = executor.submit(Path.read_text, gate)
    for _ in range(5):
        executor.submit(os.getpid).result(PATIENCE_S)
    assert not long_call.done()
    gate.write_text("done")
    assert long_call.result(PATIENCE_S) == "done"


def test_segments_are_equal_bit_for_bit(executor: SegmentExecutor) -> None:
    """Whatever the slot, the order of calls and the number of segments a call."""
    recipes: list[dict[str, Any]] = [{}, {"optimizer": "adam", "averaging": "polynomial"}]
    specs = [
        make_spec(block_size=block_size, n_steps=200, n_segments=3, seed=seed, **recipe)
        for seed, recipe in enumerate(recipes)
        for block_size in (2, 3, 4)
    ]
    calls = [executor.submit(worker.run_segments, spec, (), None, 4) for spec in specs]
    worker.use(WORDS)
    for spec, call in zip(specs, calls, strict=True):
        losses: tuple[float, ...] = ()
        weights = None
        while not (theirs := call.result(PATIENCE_S)).samples:
            losses, weights = _compared(spec, losses, weights, theirs)
            call = executor.submit(worker.run_segments, spec, losses, weights, 4)  # noqa: PLW2901 (the rest)
        assert len(_compared(spec, losses, weights, theirs)[0]) == spec.n_segments


def _compared(
    spec: TrialSpec, losses: tuple[float, ...], weights: bytes | None, theirs: worker.CallResult
) -> tuple[tuple[float, ...], bytes | None]:
    """Train the segments of a call here, one by one, and expect the same."""
    for segment in theirs.segments:
        ours = worker.run_segments(spec, losses, weights, 1)
        assert replace(segment, wall_s=0.0) == replace(ours.segments[0], wall_s=0.0)
        losses, weights = (*losses, segment.dev_loss), ours.weights
    assert (theirs.weights, theirs.samples) == (ours.weights, ours.samples)
    return losses, weights


def test_segments_before_one_that_fails_are_kept(executor: SegmentExecutor) -> None:
    """The error comes with the next call, which begins with that segment."""
    spec = make_spec(learning_rate=2.2, weight_decay=1.0, n_steps=400, n_segments=40)
    losses: list[float] = []

    def train() -> NoReturn:
        weights = None
        while True:
            call = executor.submit(worker.run_segments, spec, tuple(losses), weights, 40)
            kept = call.result(PATIENCE_S)
            losses.extend(segment.dev_loss for segment in kept.segments)
            weights = kept.weights

    with pytest.raises(DivergedError):
        train()
    assert 0 < len(losses) < 40
