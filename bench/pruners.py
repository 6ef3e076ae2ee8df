"""Compare pruners on whole curves: how much time each saves, and what it throws away.

First train trials to their end, proposed at random, so that nothing has been pruned:

    mmsearch run --study whole --sampler random --pruner none --trials 48
    python bench/pruners.py runs/whole

Each pruner then sees the same curves in several orders, one trial after another, as a study with
one worker would give them.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from rich.console import Console
from rich.table import Table

from mmsearch.tracking.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mmsearch.tracking.journal.records import TrialRecord

N_ORDERS = 6


def pruners(n_steps: int) -> dict[str, Callable[[], optuna.pruners.BasePruner]]:
    """Name the pruners to compare; percentages are of a trial's steps."""
    p = optuna.pruners

    def median(share: float) -> Callable[[], optuna.pruners.BasePruner]:
        return lambda: p.MedianPruner(n_startup_trials=5, n_warmup_steps=round(share * n_steps) - 1)

    def halving(share: float, factor: int) -> Callable[[], optuna.pruners.BasePruner]:
        return lambda: p.SuccessiveHalvingPruner(
            min_resource=round(share * n_steps), reduction_factor=factor
        )

    return {
        "none": p.NopPruner,
        "median from 5 %": median(0.05),
        "median from 25 %": median(0.25),
        "median from 50 %": median(0.5),
        "halving by 4 from 5 %": halving(0.05, 4),
        "halving by 3 from 5 %": halving(0.05, 3),
        "halving by 2 from 5 %": halving(0.05, 2),
        "halving by 4 from 10 %": halving(0.1, 4),
        "halving by 3 from 10 %": halving(0.1, 3),
        "halving by 2 from 10 %": halving(0.1, 2),
        "halving by 2 from 20 %": halving(0.2, 2),
        "hyperband": lambda: p.HyperbandPruner(n_steps // 20, n_steps, 3),
    }


def replay(
    trials: Sequence[TrialRecord], pruner: optuna.pruners.BasePruner, order: int
) -> tuple[float, list[int]]:
    """Show a pruner the curves in one order; the seconds trained and the trials it let finish."""
    # Hyperband deals trials to its brackets by the name of the study.
    study = optuna.create_study(study_name=f"order {order}", pruner=pruner)
    shuffled = list(trials)
    random.Random(order).shuffle(shuffled)  # noqa: S311 (an order, not a secret)
    seconds, finished = 0.0, []
    for record in shuffled:
        trial = study.ask()
        is_pruned = False
        for segment in record.curve:
            seconds += segment.wall_s
            trial.report(segment.dev_loss, segment.step)
            if segment is not record.curve[-1] and trial.should_prune():
                is_pruned = True
                break
        if is_pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, record.dev_loss)
            finished.append(record.number)
    return seconds, finished


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="folder of a study without pruning")
    records = Journal(parser.parse_args().study).records()
    trials = sorted(
        (record for record in records if record.is_complete),
        key=lambda record: record.dev_loss or 0,
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loss = {record.number: record.dev_loss or 0.0 for record in trials}
    top = {record.number for record in trials[:5]}
    whole_s = sum(record.wall_s for record in trials)
    table = Table("pruner", "time", "finished", "best is worse by", "of the best 5", box=None)
    for name, make in pruners(trials[0].spec.n_steps).items():
        runs = [replay(trials, make(), order) for order in range(N_ORDERS)]
        regrets = [min(loss[n] for n in done) - trials[0].dev_loss for _, done in runs]  # type: ignore[operator]  # complete trials have one
        table.add_row(
            name,
            f"{sum(s for s, _ in runs) / N_ORDERS / whole_s:.2f}",
            f"{sum(len(done) for _, done in runs) / N_ORDERS:.1f}",
            f"{sum(regrets) / N_ORDERS:.4f} (max {max(regrets):.4f})",
            f"{sum(len(top & set(done)) for _, done in runs) / N_ORDERS:.1f}",
        )
    Console().print(f"{len(trials)} trials, {whole_s:.0f} s, {N_ORDERS} orders")
    Console().print(table)


if __name__ == "__main__":
    main()
