"""One training step on one thread: the article's loop against `Kernel`, side by side.

    python bench/step.py

The two take turns in one process, so that a busy machine slows both; medians over turns are
printed. The floor is the arithmetic alone, 6 B (T D H + H V) floating-point operations, at the
speed of a 1024 x 1024 matrix product. Ours is what `train_segment` does, averaging included: with
the article's recipe, and with the default one, where the article's loop keeps to examples and SGD.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from report import options, report, shown
from torch import Tensor
from torch.nn import functional

from mmsearch.data.contexts import Contexts, distinct
from mmsearch.model.averaging import STRIDE, average_in
from mmsearch.model.kernel import Kernel
from mmsearch.model.minibatches import Distributions, Examples, Source, add_noise
from mmsearch.model.mlp import Parameters
from mmsearch.model.spec import Optimizer

SHAPES = ((2, 100, 3), (10, 200, 3), (16, 256, 5), (24, 512, 8), (48, 512, 10))
RECIPE_SHAPES = ((24, 200, 6), (63, 415, 8))
CASES = [
    *((shape, "article", 32) for shape in SHAPES),
    *((shape, recipe, 128) for shape in RECIPE_SHAPES for recipe in ("sgd", "adam")),
    ((63, 415, 8), "adam", 256),
]
"""Embedding, hidden and block size; the recipe; contexts a step."""
N_STEPS, VOCAB_SIZE, N_EXAMPLES = 200, 27, 180_000
RATE = {"sgd": 0.1, "adam": 1e-3}


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


def article(
    parameters: Parameters, inputs: Tensor, targets: Tensor, batch_size: int
) -> Callable[[], None]:
    """Return the article's loop: autograd, and indices drawn at every step."""
    tensors = list(parameters.named().values())
    C, W1, b1, W2, b2 = tensors
    for tensor in tensors:
        tensor.requires_grad = True

    def steps() -> None:
        for _ in range(N_STEPS):
            chosen = torch.randint(0, len(targets), (batch_size,))
            h = torch.tanh(C[inputs[chosen]].view(batch_size, -1) @ W1 + b1)
            loss = functional.cross_entropy(h @ W2 + b2, targets[chosen])
            for tensor in tensors:
                tensor.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            for tensor in tensors:
                tensor.data += -0.1 * tensor.grad  # type: ignore[operator]  # backward made it

    return steps


def ours(
    parameters: Parameters, contexts: Contexts, recipe: str, batch_size: int
) -> Callable[[], None]:
    """Return what `train_segment` does between two points of its curve."""
    optimizer: Optimizer = "adam" if recipe == "adam" else "sgd"
    kernel = Kernel(parameters, batch_size=batch_size, weight_decay=1e-4, optimizer=optimizer)
    mean = kernel.flat.clone()
    generator = torch.Generator().manual_seed(1)
    source: Source = (
        Examples(contexts, VOCAB_SIZE)
        if recipe == "article"
        else Distributions(distinct(contexts), VOCAB_SIZE)
    )
    unigram_ends = torch.linspace(0, 1, VOCAB_SIZE + 1)[1:]
    n_done = 0

    def steps() -> None:
        nonlocal n_done
        drawn = source.draw(N_STEPS, batch_size, generator)
        if recipe != "article":
            noisy = add_noise(drawn.inputs, 0.1, unigram_ends, generator)
            drawn = replace(drawn, inputs=noisy)
        for start in range(0, N_STEPS, STRIDE):
            part = slice(start, start + STRIDE)
            kernel.steps(drawn.part(part), [RATE[optimizer]] * STRIDE)
            average_in(mean, kernel.flat, n_done, n_done + STRIDE)
            n_done += STRIDE

    return steps


def skewed(n: int, block_size: int) -> Contexts:
    """Draw examples that repeat about as often as those of names."""
    shares = 1 / torch.arange(1, VOCAB_SIZE + 1)
    ids = torch.multinomial(shares, n * (block_size + 1), replacement=True).view(n, -1)
    return Contexts(inputs=ids[:, :-1].int(), targets=ids[:, -1].contiguous())


def microseconds(steps: Callable[[], object], n: int) -> float:
    """Time a call that does `n` steps; returns microseconds a step."""
    begun = time.perf_counter()
    steps()
    return (time.perf_counter() - begun) / n * 1e6


def main() -> None:
    """Print the table."""
    n_turns = options(__doc__, turns=9).turns
    torch.set_num_threads(1)
    torch.manual_seed(0)
    square = torch.randn(1024, 1024)
    gigaflops = 2 * 1024**3 / statistics.median(
        microseconds(lambda: square @ square, 1) for _ in range(n_turns)
    ) / 1e3  # fmt: skip
    rows, figures = [], []
    for shape, recipe, batch_size in CASES:
        embedding_dim, hidden_width, block_size = shape
        contexts = skewed(N_EXAMPLES, block_size)
        loops = [
            article(new_parameters(*shape), contexts.inputs, contexts.targets, batch_size),
            ours(new_parameters(*shape), contexts, recipe, batch_size),
        ]
        turns = [[microseconds(loop, N_STEPS) for loop in loops] for _ in range(n_turns)]
        theirs_us, ours_us = (statistics.median(times) for times in zip(*turns, strict=True))
        ratios = [theirs / own for theirs, own in turns]
        multiplied = block_size * embedding_dim * hidden_width + hidden_width * VOCAB_SIZE
        floor_us = 6 * batch_size * multiplied / gigaflops / 1e3
        name = f"{'/'.join(map(str, shape))}, {recipe}, {batch_size}"
        rows.append(
            {
                "emb/hid/block, recipe, batch": name,
                "article": f"{theirs_us:.0f} µs",
                "ours": f"{ours_us:.0f} µs",
                "article/ours": shown(ratios, ".1f"),
                "floor": f"{floor_us:.0f} µs",
                "ours/floor": f"{ours_us / floor_us:.1f}x",
            }
        )
        figures.append(
            {"shape": name, "article_us": theirs_us, "ours_us": ours_us, "floor_us": floor_us}
            | {"article_by_ours": ratios}
        )
    title = f"one thread, {gigaflops:.0f} GFLOP/s, {n_turns} turns"
    report("step", title, rows, {"gigaflops": gigaflops, "steps": figures})


if __name__ == "__main__":
    main()
