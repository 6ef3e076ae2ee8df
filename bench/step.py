"""One training step on one thread: the article's loop against `SGDKernel`, side by side.

    python bench/step.py

The two take turns in one process, so that a busy machine slows both; each figure is the median
of several turns. The floor is the arithmetic alone, 6 B (T D H + H V) floating-point operations,
at the speed of a 1024 x 1024 matrix product in the same process. Ours is what `train_segment` does
by default, the mean over the steps included.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch
from report import report, spread
from torch.nn import functional

from mmsearch.model.averaging import STRIDE, average_in
from mmsearch.model.kernel import SGDKernel
from mmsearch.model.mlp import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SHAPES = ((2, 100, 3), (10, 200, 3), (16, 256, 5), (24, 512, 8), (48, 512, 10))
N_TURNS, N_STEPS, BATCH_SIZE, VOCAB_SIZE, N_EXAMPLES = 9, 200, 32, 27, 180_000
RATE = 0.1


def new_parameters(embedding_dim: int, hidden_width: int, block_size: int) -> Parameters:
    """Draw parameters at a scale that trains."""
    n_inputs = block_size * embedding_dim
    return Parameters(
        C=torch.randn(VOCAB_SIZE, embedding_dim),
        W1=torch.randn(n_inputs, hidden_width) / n_inputs**0.5,
        b1=torch.zeros(hidden_width),
        W2=torch.randn(hidden_width, VOCAB_SIZE) * 0.01,
        b2=torch.zeros(VOCAB_SIZE),
    )


def article(parameters: Parameters, inputs: Tensor, targets: Tensor) -> Callable[[], None]:
    """Give the article's loop: autograd, and indices drawn at every step."""
    tensors = list(parameters.named().values())
    C, W1, b1, W2, b2 = tensors
    for tensor in tensors:
        tensor.requires_grad = True

    def steps() -> None:
        for _ in range(N_STEPS):
            chosen = torch.randint(0, len(targets), (BATCH_SIZE,))
            h = torch.tanh(C[inputs[chosen]].view(BATCH_SIZE, -1) @ W1 + b1)
            loss = functional.cross_entropy(h @ W2 + b2, targets[chosen])
            for tensor in tensors:
                tensor.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            for tensor in tensors:
                tensor.data += -RATE * tensor.grad  # type: ignore[operator]  # backward made it

    return steps


def ours(parameters: Parameters, inputs: Tensor, targets: Tensor) -> Callable[[], None]:
    """Give what `train_segment` does between two points of its curve."""
    kernel = SGDKernel(parameters, batch_size=BATCH_SIZE)
    mean = parameters.map(torch.clone)
    n_done = 0

    def steps() -> None:
        nonlocal n_done
        chosen = torch.randint(len(targets), (N_STEPS, BATCH_SIZE))
        batches = inputs[chosen], targets[chosen]
        for start in range(0, N_STEPS, STRIDE):
            part = slice(start, start + STRIDE)
            kernel.steps(batches[0][part], batches[1][part], [RATE] * STRIDE)
            average_in(mean, kernel.parameters, n_done, n_done + STRIDE)
            n_done += STRIDE

    return steps


def microseconds(steps: Callable[[], object], n: int) -> float:
    """Time a call, by each of the `n` things it does."""
    begun = time.perf_counter()
    steps()
    return (time.perf_counter() - begun) / n * 1e6


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    square = torch.randn(1024, 1024)
    gigaflops = 2 * 1024**3 / statistics.median(
        microseconds(lambda: square @ square, 1) for _ in range(N_TURNS)
    ) / 1e3  # fmt: skip
    rows, figures = [], []
    for shape in SHAPES:
        embedding_dim, hidden_width, block_size = shape
        inputs = torch.randint(VOCAB_SIZE, (N_EXAMPLES, block_size), dtype=torch.int32)
        targets = torch.randint(VOCAB_SIZE, (N_EXAMPLES,))
        loops = [make(new_parameters(*shape), inputs, targets) for make in (article, ours)]
        turns = [[microseconds(loop, N_STEPS) for loop in loops] for _ in range(N_TURNS)]
        theirs_us, ours_us = (statistics.median(times) for times in zip(*turns, strict=True))
        ratios = [theirs / own for theirs, own in turns]
        multiplied = block_size * embedding_dim * hidden_width + hidden_width * VOCAB_SIZE
        floor_us = 6 * BATCH_SIZE * multiplied / gigaflops / 1e3
        name = "/".join(map(str, shape))
        ratio = spread(ratios)
        rows.append(
            {
                "emb/hid/block": name,
                "article": f"{theirs_us:.0f} µs",
                "ours": f"{ours_us:.0f} µs",
                "article/ours": f"{ratio['median']:.1f}x",
                "range": f"{ratio['low']:.1f} to {ratio['high']:.1f}",
                "floor": f"{floor_us:.0f} µs",
                "ours/floor": f"{ours_us / floor_us:.1f}x",
            }
        )
        figures.append(
            {"shape": name, "article_us": theirs_us, "ours_us": ours_us, "floor_us": floor_us}
            | {"article_by_ours": ratio}
        )
    title = f"one thread, {gigaflops:.0f} GFLOP/s, batch {BATCH_SIZE}, {N_TURNS} turns"
    report("step", title, rows, {"gigaflops": gigaflops, "steps": figures})


if __name__ == "__main__":
    main()
