"""The functions that run in a worker process.

The coordinator imports this module only to name them; torch is imported where they run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmsearch.data.split import Words
    from mmsearch.model.curve import CurvePoint
    from mmsearch.model.spec import Targets, TrialSpec
    from mmsearch.model.training import TrialData

N_SAMPLES = 20
"""Words sampled from each trial that trains to its end."""
MAX_BYTES_HELD = 2**27
"""Bytes of examples beyond which a worker drops those of the block size used longest ago. Those of
the largest block size are kept, since the others are derived from them."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A trained segment in plain values, so that the coordinator needs no torch."""

    train: tuple[CurvePoint, ...]
    dev_loss: float
    dev_parts: Mapping[str, float]
    """Dev loss on parts of dev, by name."""
    train_loss: float
    """Loss of the same weights on a fixed part of train, in nats per character."""
    weights: bytes
    """State after the segment, as safetensors."""
    weights_sha256: str
    samples: tuple[str, ...]
    """Words sampled after the last segment; empty before."""
    wall_s: float
    """Seconds spent on training and scoring."""


_words: Words | None = None


def start(words: Words) -> None:
    """Prepare this process, which exits when the coordinator does."""
    from mmsearch.model.arithmetic import fix_arithmetic  # noqa: PLC0415 (torch; only in a worker)

    global _words  # noqa: PLW0603 (sent once; with each call it would cost more)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the coordinator handles them
    fix_arithmetic()
    _words = words
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def run_segment(
    spec: TrialSpec, dev_losses: tuple[float, ...], weights: bytes | None
) -> SegmentResult:
    """Train the next segment of a trial from the weights before it.

    Args:
        spec: the trial's spec.
        dev_losses: dev losses of its segments so far.
        weights: state after the last of them; None before the first.

    Raises:
        DivergedError: the loss or a weight is not finite.
    """
    from mmsearch.model import checkpoint  # noqa: PLC0415 (torch; only in a worker)
    from mmsearch.model.sampling import sample_words  # noqa: PLC0415
    from mmsearch.model.training import train_segment  # noqa: PLC0415

    if _words is None:
        raise RuntimeError("the worker was not started with its words")
    data = _data(spec.block_size, spec.targets)
    begun = time.perf_counter()
    state = None if weights is None else checkpoint.state_from_bytes(weights)
    result = train_segment(spec, dev_losses, state, data)
    wall_s = time.perf_counter() - begun
    content = checkpoint.to_bytes(result.state)
    samples: tuple[str, ...] = ()
    if spec.has_ended([*dev_losses, result.dev_loss]):
        drawn = sample_words(result.state.parameters, _words.vocabulary, N_SAMPLES)
        samples = tuple(sample.word for sample in drawn)
    return SegmentResult(
        train=result.curve,
        dev_loss=result.dev_loss,
        dev_parts=result.dev_parts,
        train_loss=result.train_loss,
        weights=content,
        weights_sha256=checkpoint.sha256(content),
        samples=samples,
        wall_s=wall_s,
    )


_widest: dict[Targets, TrialData] = {}
"""Examples of the largest block size so far."""
_held: OrderedDict[tuple[int, Targets], TrialData] = OrderedDict()
"""Examples of smaller block sizes, the one used last at the end."""


def _data(block_size: int, targets: Targets) -> TrialData:
    """Return the examples of one block size, from the cache if possible."""
    from mmsearch.model.training import TrialData  # noqa: PLC0415 (torch)

    if _words is None:
        raise RuntimeError("the worker was not started with its words")
    widest = _widest.get(targets)
    if widest is None or widest.block_size < block_size:
        # Free what was derived from the old one before the new one needs the memory.
        del widest
        _widest.pop(targets, None)
        for key in [key for key in _held if key[1] == targets]:
            del _held[key]
        widest = TrialData(_words.train, _words.dev, _words.vocabulary, block_size, targets)
        _widest[targets] = widest
    if block_size == widest.block_size:
        return widest
    key = block_size, targets
    if key not in _held:
        while _held and _n_bytes_held() > MAX_BYTES_HELD:
            _held.popitem(last=False)
        _held[key] = widest.narrowed(block_size)
    _held.move_to_end(key)
    return _held[key]


def _n_bytes_held() -> int:
    return sum(data.n_bytes for data in (*_widest.values(), *_held.values()))
