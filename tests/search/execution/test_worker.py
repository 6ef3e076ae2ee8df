"""A worker holds its examples once, whatever block sizes its trials have."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary
from mmsearch.data.split import Words
from mmsearch.model.checkpoint import sha256, to_bytes
from mmsearch.model.spec import Targets
from mmsearch.model.training import TrialData, train_segment
from mmsearch.search.execution import worker
from mmsearch.search.execution.worker_pool import WorkerPool
from tests.support.specs import make_spec

if TYPE_CHECKING:
    from mmsearch.model.spec import TrialSpec

LARGEST = 10


def specs(targets: Targets) -> list[TrialSpec]:
    """Make trials of one step at every block size, the largest in the middle and at the end."""
    order = [3, LARGEST, *range(2, LARGEST), LARGEST]
    return [
        make_spec(block_size=size, targets=targets, n_steps=1, n_segments=1, context_noise=0.2)
        for size in order
    ]


def peak_kib(pool: WorkerPool) -> int:
    """Return the most memory that the worker has held so far.

    Not `ru_maxrss`: a process inherits that from the one that started it.
    """
    status = pool.submit(Path.read_text, Path("/proc/self/status")).result()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("targets", get_args(Targets))
def test_trials_do_not_depend_on_the_ones_before(targets: Targets) -> None:
    """The block sizes that a worker has seen change no bit, so that replays stay exact."""
    words = BUILTIN_CORPUS.read_text("utf-8").split()[:400]
    vocabulary = Vocabulary.of(words)
    train, dev = tuple(words[:300]), tuple(words[300:])

    with WorkerPool(1, worker.start, (Words(train, dev, vocabulary),)) as pool:
        found = [
            pool.submit(worker.run_segment, spec, (), None).result() for spec in specs(targets)
        ]

    for result, spec in zip(found, specs(targets), strict=True):
        data = TrialData(train, dev, vocabulary, spec.block_size, targets)
        expected = train_segment(spec, (), None, data)
        assert result.weights_sha256 == sha256(to_bytes(expected.state))
        assert (result.dev_loss, result.dev_parts) == (expected.dev_loss, expected.dev_parts)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory")
def test_more_block_sizes_take_no_more_memory() -> None:
    """Nine block sizes of a large corpus are one tensor, not nine."""
    words = tuple(f"{n:07b}{n % 977:03d}" for n in range(50_000))
    id_bytes = 4 * sum(len(word) + 1 for word in words)
    vocabulary = Vocabulary.of(words)

    with WorkerPool(1, worker.start, (Words(words, words[:10], vocabulary),)) as pool:
        first, largest, *rest = specs("examples")
        pool.submit(worker.run_segment, first, (), None).result()
        pool.submit(worker.run_segment, largest, (), None).result()
        before = peak_kib(pool)
        for spec in rest:
            pool.submit(worker.run_segment, spec, (), None).result()
        after = peak_kib(pool)

    # Apart, block sizes 2 to 9 would take 44 ids an example; what is left is the allocator's.
    assert 1024 * (after - before) < 2 * id_bytes
