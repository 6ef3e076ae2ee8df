"""The table of `model/cost.py`: what a training step costs by its shape.

    python bench/cost.py

Times `train_segment` at random points of the default and the article's spaces, and fits to each
optimizer the non-negative costs whose relative errors are smallest. Two lengths of a segment take
turns, and their difference is the time of the steps alone. Prints the table, in femtoseconds.
"""

import dataclasses
import random
import statistics
import time

import numpy as np
from report import draw_point, options, report
from scipy.optimize import nnls

from mmsearch.data.corpus import BUILTIN_CORPUS, read_corpus
from mmsearch.data.split import split_corpus
from mmsearch.model.arithmetic import fix_arithmetic
from mmsearch.model.cost import cost_terms
from mmsearch.model.spec import TrialSpec
from mmsearch.model.training import TrialData, train_segment
from mmsearch.search.study.settings import settle

FEW, MANY = 50, 250
"""Steps of the two segments."""


def step_us(spec: TrialSpec, data: TrialData, n_turns: int) -> float:
    """Return the median processor time of a training step in microseconds."""
    times: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(n_turns):
        for n_steps, found in times.items():
            first = dataclasses.replace(spec, n_steps=n_steps * spec.n_segments, evaluations="even")
            begun = time.process_time()
            train_segment(first, (), None, data)
            found.append(time.process_time() - begun)
    few, many = (statistics.median(found) for found in times.values())
    return (many - few) / (MANY - FEW) * 1e6


def main() -> None:
    """Print the table."""
    arguments = options(__doc__, points=60, turns=3)
    fix_arithmetic()
    split = split_corpus(read_corpus(BUILTIN_CORPUS), 42)
    vocabulary = read_corpus(BUILTIN_CORPUS).vocabulary
    chance = random.Random(0)  # noqa: S311 (no secret)
    rows, tables = [], {}
    for recipe in ("article", "default"):
        settings = settle({"recipe": recipe})
        times: list[float] = []
        terms: list[dict[str, int]] = []
        for _ in range(arguments.points):
            point = draw_point(settings, chance)
            # Low, so that no point diverges; the time of a step does not depend on it.
            spec = settings.trial_spec({**point, "learning_rate": 1e-3}, 0)
            data = TrialData(split.train, split.dev, vocabulary, spec.block_size, spec.targets)
            times.append(step_us(spec, data, arguments.turns))
            terms.append(cost_terms(spec, vocabulary.size))
        # Divided by the times, so that relative errors count.
        matrix = np.array([list(each.values()) for each in terms]) / np.array(times)[:, None]
        costs, _ = nnls(matrix, np.ones(len(times)))
        errors = np.abs(matrix @ costs - 1)
        table = {name: round(cost * 1e9) for name, cost in zip(terms[0], costs, strict=True)}
        tables[spec.optimizer] = table
        rows.append(
            {
                "optimizer": spec.optimizer,
                **{name: f"{cost:,}" for name, cost in table.items()},
                "median error": f"{np.median(errors):.1%}",
                "largest": f"{errors.max():.0%}",
            }
        )
    report("cost", "femtoseconds a unit", rows, {"settings": vars(arguments), "costs": tables})


if __name__ == "__main__":
    main()
