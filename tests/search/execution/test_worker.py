"""What a worker trains in a call, and that it does not depend on the calls before."""

import time
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary
from mmsearch.data.split import Words
from mmsearch.model import training
from mmsearch.model.averaging import State
from mmsearch.model.checkpoint import sha256, to_bytes
from mmsearch.model.spec import Evaluations, Targets, TrialSpec
from mmsearch.model.training import Segment, TrialData, train_segment
from mmsearch.search.execution import worker
from mmsearch.search.execution.worker_pool import WorkerPool
from tests.support.specs import make_parameters, make_spec


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
        calls = [pool.submit(worker.run_segments, spec, (), None, 1) for spec in specs]
        found = [call.result().segments[0] for call in calls]

    for result, spec in zip(found, specs, strict=True):
        data = TrialData(train, dev, vocabulary, spec.block_size, targets)
        expected = train_segment(spec, (), None, data)
        assert result.weights_sha256 == sha256(to_bytes(expected.state))
        assert (result.dev_loss, result.dev_parts) == (expected.dev_loss, expected.dev_parts)


@pytest.mark.parametrize("evaluations", get_args(Evaluations))
def test_call_ends_in_time(monkeypatch: pytest.MonkeyPatch, evaluations: Evaluations) -> None:
    """Whatever the lengths of segments; the first one is always trained."""
    steps_per_s = 1000
    now_s = 0.0

    def train(spec: TrialSpec, losses: Sequence[float], *_: Any) -> Segment:
        nonlocal now_s
        n = len(losses) + 1
        now_s += (spec.segment_end(n) - spec.segment_end(n - 1)) / steps_per_s
        return Segment(
            State(make_parameters(Vocabulary.of("emmaava").size, 1, 1, 1)), (), 1.0, {}, 1.0
        )

    monkeypatch.setattr(training, "train_segment", train)
    monkeypatch.setattr(time, "perf_counter", lambda: now_s)
    worker.use(Words(("emma",), ("ava",), Vocabulary.of("emmaava")))
    spec = make_spec(n_steps=20_000, n_segments=40, evaluations=evaluations)
    losses: list[float] = []
    n_calls = 0
    while not spec.has_ended(losses):
        begun_s = now_s
        done = worker.run_segments(spec, tuple(losses), None, 40)
        losses += [segment.dev_loss for segment in done.segments]
        n_calls += 1
        assert now_s - begun_s <= worker.CALL_S or len(done.segments) == 1
    assert n_calls < 40 / 2
