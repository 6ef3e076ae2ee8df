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

CALL_S = 2.0
"""Seconds for which a call may train several segments. On a cluster a call costs more than a
segment; but what a killed worker had trained is lost, and Ctrl-C waits for the calls."""
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
    weights_sha256: str
    """SHA-256 of the state after the segment, serialized as safetensors."""
    wall_s: float
    """Seconds spent on training and scoring."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """The segments that one call trained."""

    segments: tuple[SegmentResult, ...]
    """One or more, in order."""
    weights: bytes
    """State after the last of them, as safetensors."""
    samples: tuple[str, ...]
    """Words sampled after the trial's last segment; empty before."""


class DataCache:
    """The examples of a study's words, by block size; those used last are kept."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self._widest: dict[Targets, TrialData] = {}
        """Those of the largest block size so far."""
        self._held: OrderedDict[tuple[int, Targets], TrialData] = OrderedDict()
        """Those of smaller block sizes, the ones used last at the end."""

    def of(self, block_size: int, targets: Targets) -> TrialData:
        """Return the examples of one block size, kept ones if possible."""
        from mmsearch.model.training import TrialData  # noqa: PLC0415 (torch)

        words, held = self.words, self._held
        widest = self._widest.get(targets)
        if widest is None or widest.block_size < block_size:
            # Free what was derived from the old one before the new one needs the memory.
            del widest
            self._widest.pop(targets, None)
            for key in [key for key in held if key[1] == targets]:
                del held[key]
            widest = TrialData(words.train, words.dev, words.vocabulary, block_size, targets)
            self._widest[targets] = widest
        if block_size == widest.block_size:
            return widest
        key = block_size, targets
        if key not in held:
            while held and self._n_bytes() > MAX_BYTES_HELD:
                held.popitem(last=False)
            held[key] = widest.narrowed(block_size)
        held.move_to_end(key)
        return held[key]

    def _n_bytes(self) -> int:
        return sum(data.n_bytes for data in (*self._widest.values(), *self._held.values()))


class _Here(threading.local):
    """What this thread trains with."""

    cache: DataCache | None = None


_here = _Here()


def use(words: Words) -> None:
    """Prepare this thread to train with a study's words."""
    from mmsearch.model.arithmetic import fix_arithmetic  # noqa: PLC0415 (torch; only in a worker)

    fix_arithmetic()
    if _here.cache is None or _here.cache.words is not words:
        _here.cache = DataCache(words)


def start(words: Words) -> None:
    """Prepare this process, which exits when the coordinator does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the coordinator handles them
    use(words)
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def run_segments(
    spec: TrialSpec, dev_losses: tuple[float, ...], weights: bytes | None, n_segments: int
) -> CallResult:
    """Train the next segments of a trial from the weights before them.

    Fewer are trained if the trial ends, if the next one would take the call beyond `CALL_S`, or if
    one after the first fails: its error is raised when a call begins with it.

    Args:
        spec: the trial's spec.
        dev_losses: dev losses of its segments so far.
        weights: state after the last of them; None before the first.
        n_segments: the most segments to train, at least 1.

    Raises:
        DivergedError: the loss or a weight is not finite.
    """
    from mmsearch.model import checkpoint  # noqa: PLC0415 (torch; only in a worker)
    from mmsearch.model.sampling import sample_words  # noqa: PLC0415
    from mmsearch.model.training import train_segment  # noqa: PLC0415

    cache = _here.cache
    if cache is None:
        raise RuntimeError("the worker was not started with its words")
    data = cache.of(spec.block_size, spec.targets)
    state = None if weights is None else checkpoint.state_from_bytes(weights)
    segments: list[SegmentResult] = []
    samples: tuple[str, ...] = ()
    losses, content = list(dev_losses), b""
    next_s = spent_s = 0.0
    while len(segments) < n_segments and spent_s + next_s <= CALL_S:
        try:
            begun = time.perf_counter()
            result = train_segment(spec, losses, state, data)
            wall_s = time.perf_counter() - begun
            content_after = checkpoint.to_bytes(result.state)
            if has_ended := spec.has_ended([*losses, result.dev_loss]):
                drawn = sample_words(result.state.parameters, cache.words.vocabulary, N_SAMPLES)
                samples = tuple(sample.word for sample in drawn)
        except Exception:
            if segments:
                break  # the next call begins with this segment, and raises its error
            raise
        state, content = result.state, content_after
        losses.append(result.dev_loss)
        segment = SegmentResult(
            train=result.curve,
            dev_loss=result.dev_loss,
            dev_parts=result.dev_parts,
            train_loss=result.train_loss,
            weights_sha256=checkpoint.sha256(content),
            wall_s=wall_s,
        )
        segments.append(segment)
        if has_ended:
            break
        spent_s += wall_s
        next_s = wall_s * _n_steps(spec, len(losses) + 1) / _n_steps(spec, len(losses))
    return CallResult(tuple(segments), content, samples)


def _n_steps(spec: TrialSpec, segment: int) -> int:
    return spec.segment_end(segment) - spec.segment_end(segment - 1)
