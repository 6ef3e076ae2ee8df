"""Segments are a pure function of their input, in any process, and diverge with a named step."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.data.contexts import build_contexts, distinct
from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary
from mmsearch.model import training
from mmsearch.model.averaging import POWER, State, average_in
from mmsearch.model.checkpoint import sha256, to_bytes
from mmsearch.model.evaluation import mean_loss
from mmsearch.model.mlp import Parameters
from mmsearch.model.schedule import learning_rates
from mmsearch.model.spec import Targets, TrialSpec
from mmsearch.model.training import DivergedError, Segment, TrialData, train_segment
from tests.support.plain_training import Watched, train_plainly
from tests.support.specs import make_parameters, make_spec

WORDS = BUILTIN_CORPUS.read_text("utf-8").split()[:300]
VOCABULARY = Vocabulary.of(WORDS)
BLOCK_SIZE = 3
DEV = distinct(build_contexts(WORDS[250:], VOCABULARY, BLOCK_SIZE))
DATA = {
    targets: TrialData(WORDS[:250], WORDS[250:], VOCABULARY, BLOCK_SIZE, targets)
    for targets in get_args(Targets)
}
START = make_parameters(VOCABULARY.size, 3, 8, BLOCK_SIZE)
RECIPE: dict[str, Any] = {
    "optimizer": "adam",
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "targets": "contexts",
    "context_noise": 0.2,
    "schedule": "constant",
    "averaging": "polynomial",
    "evaluations": "growing",
    "n_steps": 300,
    "n_segments": 8,
    "patience": 2,
    "extend_to": 3.0,
}
"""Everything that version 0.1 did not have."""

FRESH_PROCESS = """
import json, sys, torch
torch.set_num_threads(1)
from mmsearch.data.corpus import BUILTIN_CORPUS, Vocabulary
from mmsearch.model.checkpoint import sha256, state_from_bytes, to_bytes
from mmsearch.model.spec import TrialSpec
from mmsearch.model.training import TrialData, train_segment

specs = [TrialSpec.from_json(values) for values in json.loads(sys.argv[1])]
words = BUILTIN_CORPUS.read_text("utf-8").split()[:300]
vocabulary = Vocabulary.of(words)
for spec in specs:
    data = TrialData(words[:250], words[250:], vocabulary, spec.block_size, spec.targets)
    content, losses = None, []
    while not spec.has_ended(losses):
        before = None if content is None else state_from_bytes(content)
        done = train_segment(spec, losses, before, data)
        content = to_bytes(done.state)
        losses.append(done.dev_loss)
        print(sha256(content), done.dev_loss.hex(), [point.loss_nats for point in done.curve])
"""
"""Trains each trial, with a checkpoint between two segments, as a worker does."""


def train(spec: TrialSpec, segment: int = 1, before: Parameters | None = None) -> Segment:
    """Train one segment on a few words."""
    state = None if before is None else State(before)
    return train_segment(spec, [9.0] * (segment - 1), state, DATA[spec.targets])


def train_all(spec: TrialSpec) -> list[Segment]:
    """Train a whole trial, its weights handed on in memory."""
    segments: list[Segment] = []
    while not spec.has_ended(losses := [segment.dev_loss for segment in segments]):
        state = segments[-1].state if segments else None
        segments.append(train_segment(spec, losses, state, DATA[spec.targets]))
    return segments


def name_of(weights: State | Parameters) -> str:
    """Name weights as the search does."""
    return sha256(to_bytes(State(weights) if isinstance(weights, Parameters) else weights))


@pytest.mark.parametrize("targets", get_args(Targets))
@pytest.mark.parametrize("block_size", range(1, 6))
def test_narrowed_data_train_to_the_same_bits(targets: Targets, block_size: int) -> None:
    spec = make_spec(
        block_size=block_size,
        targets=targets,
        **{key: RECIPE[key] for key in ("optimizer", "learning_rate", "context_noise")},
    )
    own = TrialData(WORDS[:250], WORDS[200:], VOCABULARY, block_size, targets)
    widest = TrialData(WORDS[:250], WORDS[200:], VOCABULARY, 6, targets)

    expected = train_segment(spec, (), None, own)
    found = train_segment(spec, (), None, widest.narrowed(block_size))

    assert name_of(found.state) == name_of(expected.state)
    assert replace(found, state=expected.state) == expected
    assert set(found.dev_parts) == {"half_1", "half_2", "in_train", "not_in_train"}


def test_fresh_process_carrying_on_from_checkpoints_gives_the_same_bits() -> None:
    """A worker, a resumed search and a replay are other processes."""
    specs = [
        make_spec(weight_decay=0.01, n_segments=4),
        make_spec(averaging="polynomial", schedule="constant", n_segments=4),
        make_spec(embedding_dim=24, hidden_width=256, n_steps=20, batch_size=32, init="article"),
        make_spec(**RECIPE),
        make_spec(**RECIPE | {"averaging": "none", "optimizer": "sgd", "learning_rate": 1.0}),
    ]

    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, json.dumps([spec.to_json() for spec in specs])],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )

    assert done.stdout.splitlines() == [
        f"{name_of(s.state)} {s.dev_loss.hex()} {[point.loss_nats for point in s.curve]}"
        for spec in specs
        for s in train_all(spec)
    ]


def test_trial_with_patience_keeps_the_weights_of_its_best_evaluation() -> None:
    """A large network overfits 250 words at once."""
    spec = make_spec(**RECIPE | {"weight_decay": 0.0, "context_noise": 0.0, "hidden_width": 64})

    segments = train_all(spec)

    losses = [segment.dev_loss for segment in segments]
    best = losses.index(min(losses))
    assert best < len(losses) - 1
    assert mean_loss(segments[-1].state.parameters, DEV) == losses[best]
    assert segments[-1].state == State(segments[-1].state.parameters)
    assert segments[-1].train_loss < segments[best].train_loss


def test_trial_goes_on_beyond_its_plan_while_its_dev_loss_improves() -> None:
    spec = make_spec(**RECIPE | {"learning_rate": 1e-4, "patience": 3})

    segments = train_all(spec)

    assert len(segments) > spec.n_segments
    assert segments[-1].curve[-1].step == spec.max_steps == 3 * spec.n_steps


def test_parts_of_dev_make_the_whole() -> None:
    words = ["anna", "otto", "anna", "lea", "mia", "ann"]
    data = TrialData(words[:3], words[2:], Vocabulary.of(words), 2)

    segment = train_segment(make_spec(block_size=2, n_steps=4), [], None, data)

    n_all = sum(len(word) + 1 for word in words[2:])
    for first, second, n_first in (("half_1", "half_2", 9), ("in_train", "not_in_train", 5)):
        parts = segment.dev_parts
        whole = (parts[first] * n_first + parts[second] * (n_all - n_first)) / n_all
        assert whole == pytest.approx(segment.dev_loss)


@pytest.mark.parametrize("n_segments", [1, 3, 60])
def test_model_is_the_mean_over_the_steps_and_changes_none_of_them(n_segments: int) -> None:
    averaged = train_all(make_spec(n_segments=n_segments, averaging="polynomial"))
    plain = train_all(make_spec(n_segments=n_segments))

    assert [s.curve for s in averaged] == [s.curve for s in plain]
    for with_mean, without in zip(averaged[:-1], plain[:-1], strict=True):
        assert with_mean.state.iterate is not None
        assert name_of(with_mean.state.iterate) == name_of(without.state)
        assert with_mean.dev_loss == mean_loss(with_mean.state.parameters, DEV)
    assert averaged[-1].state.iterate is None
    if n_segments == 60:  # each step is in the mean, by a weight that can be written down
        weights = [t ** (POWER + 1) - (t - 1) ** (POWER + 1) for t in range(1, 61)]
        steps = [segment.state.parameters.W1.double() for segment in plain]
        mean = sum(w * step for w, step in zip(weights, steps, strict=True)) / sum(weights)
        assert torch.allclose(averaged[-1].state.parameters.W1.double(), mean, atol=1e-6)


@given(cuts=st.sets(st.integers(1, 999), max_size=20))
def test_mean_of_equal_weights_is_those_weights_however_the_steps_are_cut(cuts: set[int]) -> None:
    weights, mean = torch.linspace(-1, 1, 9), torch.linspace(2, 7, 9)
    for start, end in pairwise([0, *sorted(cuts), 1000]):
        average_in(mean, weights, start, end)
    assert torch.allclose(mean, weights, atol=1e-6)


def test_each_seed_and_each_segment_has_minibatches_of_its_own() -> None:
    """Equal draws in all segments would train on a fraction of the words."""
    spec, before = make_spec(schedule="constant"), name_of(START)
    others = [replace(spec, seed=seed) for seed in (8, 2**32, 2**64)]

    names = [name_of(train(spec, segment, START).state) for segment in (1, 2, 3)]
    names += [name_of(train(other, 1, START).state) for other in others]

    assert len({*names, before}) == 7
    assert name_of(START) == before, "the given weights are not changed"
    starts = {name_of(train(each).state) for each in (spec, *others)}
    assert len(starts) == 4


def test_segment_is_the_plain_loop_over_its_minibatches() -> None:
    spec = make_spec(n_steps=30, n_segments=1, weight_decay=0.05)
    data = TrialData(WORDS[:250], WORDS[250:], VOCABULARY, BLOCK_SIZE)
    data.source = source = Watched(data.source)

    segment = train_segment(spec, [], State(START), data)

    parameters, losses = START.map(torch.Tensor.double), []
    rates = learning_rates(spec, 0, 30).tolist()
    for drawn, rate in zip(source.drawn, rates, strict=True):  # one step a curve point here
        parameters, loss = train_plainly(parameters, drawn, [rate], weight_decay=0.05)
        losses.append(float(loss))
    assert [point.loss_nats for point in segment.curve] == pytest.approx(losses, abs=1e-5)
    for name, tensor in segment.state.parameters.named().items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor.double(), parameters.named()[name], rtol=0, atol=1e-5), name
    assert segment.dev_loss == mean_loss(segment.state.parameters, DEV)


def test_training_learns() -> None:
    spec = make_spec(hidden_width=64, learning_rate=0.2, n_steps=1000, n_segments=1, batch_size=32)

    segment = train(spec)

    assert segment.curve[0].loss_nats == pytest.approx(math.log(VOCABULARY.size), abs=0.3)
    assert segment.curve[-1].loss_nats < 2.5
    assert segment.dev_loss < 2.7


@settings(max_examples=40)
@given(data=st.data(), n_steps=st.integers(1, 450))
def test_curve_covers_every_step_once_at_its_rate(data: st.DataObject, n_steps: int) -> None:
    n_segments = data.draw(st.integers(max(1, n_steps // 60), n_steps))
    number = data.draw(st.integers(1, n_segments))
    spec = make_spec(n_steps=n_steps, n_segments=n_segments, hidden_width=2, batch_size=1)

    curve = train(spec, number, make_parameters(VOCABULARY.size, 3, 2, BLOCK_SIZE)).curve

    steps = [spec.segment_end(number - 1), *(point.step for point in curve)]
    assert steps == sorted(set(steps))
    assert steps[-1] == spec.segment_end(number)
    for point in curve:
        assert point.learning_rate == learning_rates(spec, point.step - 1, point.step)[0]
        assert math.isfinite(point.loss_nats)


def test_large_batches_drawn_in_pieces_change_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(n_steps=40, n_segments=1)
    monkeypatch.setattr(training, "POINTS_A_TRIAL", 1)
    whole = train(spec)

    monkeypatch.setattr(training, "MAX_IDS_AT_ONCE", 40 * 8 * BLOCK_SIZE // 7)
    pieces = train(spec)

    assert (len(whole.curve), len(pieces.curve)) == (1, 7)
    assert name_of(whole.state) == name_of(pieces.state)


@pytest.mark.parametrize(
    ("rate", "decay"), [(1e30, 0.0), (3e38, 0.0), (1e308, 0.0), (1e3, 1e3), (1e300, 1e300)]
)
def test_rate_that_is_far_too_high_diverges_at_a_named_step(rate: float, decay: float) -> None:
    spec = make_spec(
        learning_rate=rate, weight_decay=decay, schedule="constant", n_steps=300, n_segments=1
    )

    with pytest.raises(DivergedError, match=r"step \d+ of 300$") as caught:
        train(spec)

    assert caught.value.exit_code == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["C", "W1", "b1", "W2", "b2"])
def test_weights_that_are_not_finite_are_never_returned(name: str, bad: float) -> None:
    """Not even where no minibatch and no dev word uses them; steps count from the trial's start."""
    start = START.map(torch.clone)
    start.named()[name].view(-1)[-1] = bad

    with pytest.raises(DivergedError, match=r"not finite at step 1 of 1$"):
        train(make_spec(n_steps=1, n_segments=1, batch_size=1), 1, start)

    start.b2[0] = torch.nan
    with pytest.raises(DivergedError, match=r"step 21 of 40$"):
        train(make_spec(n_steps=40, n_segments=2), 2, start)
