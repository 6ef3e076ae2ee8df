"""What runs in a worker process: segments, and nothing that lasts.

The coordinator imports this module to name its functions, and needs no torch: the functions
import it where they run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import parent_process
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.data.contexts import Contexts, DistinctContexts
    from mmsearch.data.corpus import Vocabulary
    from mmsearch.model.spec import TrialSpec

N_SAMPLES = 20
"""Words sampled from each complete trial."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a worker may see of a corpus: no test word is among it."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What a worker sends back; plain values, so that the coordinator needs no torch."""

    train: tuple[tuple[int, float, float], ...]
    """(step, train loss in nats, learning rate)."""
    dev_loss: float
    weights: bytes
    """safetensors"""
    weights_sha256: str
    samples: tuple[str, ...]
    """Words sampled after the last segment."""
    wall_s: float
    """Seconds of training and scoring."""


_words: Words | None = None


def start(words: Words) -> None:
    """Prepare this process: one torch thread, and no life beyond its coordinator's."""
    import torch  # noqa: PLC0415 (only in a worker)

    global _words  # noqa: PLW0603 (a process has one corpus; sending it each time costs more)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; the coordinator decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    _words = words
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def run_segment(spec: TrialSpec, segment: int, weights: bytes | None) -> SegmentResult:
    """Train one segment from the weights before it.

    Raises:
        DivergedError: the loss is not finite.
    """
    from mmsearch.model import checkpoint  # noqa: PLC0415 (torch; only in a worker)
    from mmsearch.model.sampling import sample_words  # noqa: PLC0415
    from mmsearch.model.training import train_segment  # noqa: PLC0415

    if _words is None:
        raise RuntimeError("the worker has not been started with its words")
    train, dev = _contexts(spec.block_size)
    begun = time.perf_counter()
    state = None if weights is None else checkpoint.state_from_bytes(weights)
    result = train_segment(spec, segment, state, train, dev, vocab_size=_words.vocabulary.size)
    wall_s = time.perf_counter() - begun
    content = checkpoint.to_bytes(result.state.parameters, result.state.iterate)
    samples: tuple[str, ...] = ()
    if segment == spec.n_segments:
        drawn = sample_words(result.state.parameters, _words.vocabulary, N_SAMPLES)
        samples = tuple(sample.word for sample in drawn)
    return SegmentResult(
        train=tuple((p.step, p.loss_nats, p.learning_rate) for p in result.curve),
        dev_loss=result.dev_loss,
        weights=content,
        weights_sha256=checkpoint.sha256(content),
        samples=samples,
        wall_s=wall_s,
    )


@lru_cache(maxsize=16)
def _contexts(block_size: int) -> tuple[Contexts, DistinctContexts]:
    """Build the examples of one block size, once a worker."""
    from mmsearch.data.contexts import build_contexts, distinct  # noqa: PLC0415 (torch)

    if _words is None:
        raise RuntimeError("the worker has not been started with its words")
    train = build_contexts(_words.train, _words.vocabulary, block_size)
    return train, distinct(build_contexts(_words.dev, _words.vocabulary, block_size))
