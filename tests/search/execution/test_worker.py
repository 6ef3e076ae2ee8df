"""What a worker trains does not depend on what it has trained before."""

from typing import get_args

import pytest

from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary
from mmsearch.data.split import Words
from mmsearch.model.checkpoint import sha256, to_bytes
from mmsearch.model.spec import Targets
from mmsearch.model.training import TrialData, train_segment
from mmsearch.search.execution import worker
from mmsearch.search.execution.worker_pool import WorkerPool
from tests.support.specs import make_spec


@pytest.mark.parametrize("targets", get_args(Targets))
def test_trials_do_not_depend_on_the_ones_before(targets: Targets) -> None:
    """The block sizes that a worker has seen change no bit, so that replays stay exact."""
    words = BUILTIN_CORPUS.read_text("utf-8").split()[:400]
    vocabulary = Vocabulary.of(words)
    train, dev = tuple(words[:300]), tuple(words[300:])
    specs = [
        make_spec(block_size=size, targets=targets, n_steps=1, n_segments=1, context_noise=0.2)
        for size in (3, 10, *range(2, 10), 10)
    ]

    with WorkerPool(1, worker.start, (Words(train, dev, vocabulary),)) as pool:
        found = [pool.submit(worker.run_segment, spec, (), None).result() for spec in specs]

    for result, spec in zip(found, specs, strict=True):
        data = TrialData(train, dev, vocabulary, spec.block_size, targets)
        expected = train_segment(spec, (), None, data)
        assert result.weights_sha256 == sha256(to_bytes(expected.state))
        assert (result.dev_loss, result.dev_parts) == (expected.dev_loss, expected.dev_parts)
