"""The plain peer: the same search as people write it from Optuna's and MLflow's tutorials.

    python bench/peer.py --trials 50 --steps 20000 --folder peer

It is what `mmsearch run` is held against (`bench/search.py`), and meant to be as good as a script
of its kind is: one process, SQLite for Optuna and for MLflow, TPE, the median pruner, a parent
run and a nested run a trial, `mlflow.log_metric` every 100 steps, two figures for each trial that
is not pruned. A trial is the article's: the data set built by its function for this block size,
parameters from a plain `randn`, batches of 32 drawn at each step, autograd, `p.grad = None`,
`p.data += -lr * p.grad`, a learning rate cut by ten half way. The whole dev split is evaluated 20
times a trial under `no_grad`, reported, and may end it. The space is mmsearch's default.

torch has its own choice of threads, which is all cores. On two idle cores that was the better for
it: the loop of a trial took 0.7 to 1.0 of its time with one thread, large shapes gaining most. On
two busy ones it took 2 to 30 times as long, as each operation waits for the slower core. There
give it `--threads 1`, for a fair comparison.

`--keep-data` gives it a thing that tutorials leave out: the data set of a block size is built
once, not anew for each trial.

Words are shuffled and cut as in the article, repeated ones dropped first unless
`--keep-duplicates`: mmsearch then trains and scores on the same words. `log.jsonl` in the folder
gets one line that tells the words and then one for each dev evaluation: `seconds`, `trial`, `step`,
`dev_loss`. Seconds are wall time from `--began`, the Unix time at which the caller started this
process; left out, they count from after the imports.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mlflow
import optuna
import torch
from torch import Tensor
from torch.nn import functional

N_EVALUATIONS = 20
CORPUS = Path(__file__).parents[1] / "data" / "names.txt"


def read_words(corpus: Path, *, keep_duplicates: bool) -> tuple[list[str], list[str], list[str]]:
    """Give the characters, the train words and the dev words."""
    words = corpus.read_text("utf-8").split("\n")
    words = [word.strip() for word in words if word.strip()]
    if not keep_duplicates:
        words = list(dict.fromkeys(words))
    characters = [".", *sorted(set("".join(words)))]
    random.Random(42).shuffle(words)  # noqa: S311 (an order, not a secret)
    n1 = int(0.8 * len(words))
    n2 = int(0.9 * len(words))
    return characters, words[:n1], words[n1:n2]


def build_dataset(
    words: tuple[str, ...], characters: tuple[str, ...], block_size: int
) -> tuple[Tensor, Tensor]:
    """Make contexts (N, block_size) and their next characters (N,), as in the article."""
    stoi = {ch: i for i, ch in enumerate(characters)}
    X, Y = [], []
    for w in words:
        context = [0] * block_size
        for ch in w + ".":
            ix = stoi[ch]
            X.append(context)
            Y.append(ix)
            context = context[1:] + [ix]  # noqa: RUF005 (the article's line)
    return torch.tensor(X), torch.tensor(Y)


def loss_of(parameters: list[Tensor], X: Tensor, Y: Tensor) -> Tensor:
    """Score the next characters, in nats a character."""
    C, W1, b1, W2, b2 = parameters
    emb = C[X]
    h = torch.tanh(emb.view(emb.shape[0], -1) @ W1 + b1)
    logits = h @ W2 + b2
    return functional.cross_entropy(logits, Y)


def log_figures(curves: dict[str, list[tuple[int, float]]], C: Tensor, itos: list[str]) -> None:
    """Show a trial's losses and its embedding in MLflow."""
    figure, axes = plt.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    mlflow.log_figure(figure, "loss.png")
    plt.close(figure)
    figure, axes = plt.subplots(figsize=(8, 8))
    axes.scatter(C[:, 0].tolist(), C[:, 1].tolist(), s=200)
    for i, ch in enumerate(itos):
        axes.text(C[i, 0].item(), C[i, 1].item(), ch, ha="center", va="center", color="white")
    axes.grid(visible=True)
    mlflow.log_figure(figure, "embedding.png")
    plt.close(figure)


def objective(
    trial: optuna.Trial,
    arguments: argparse.Namespace,
    words: tuple[list[str], list[str], list[str]],
) -> float:
    """Train and score one trial."""
    embedding_dim = trial.suggest_int("embedding_dim", 2, 48, log=True)
    hidden_width = trial.suggest_int("hidden_width", 32, 512, log=True)
    block_size = trial.suggest_int("block_size", 2, 10)
    learning_rate = trial.suggest_float("learning_rate", 1e-2, 1.0, log=True)

    characters, train_words, dev_words = words
    Xtr, Ytr = arguments.build(tuple(train_words), tuple(characters), block_size)
    Xdev, Ydev = arguments.build(tuple(dev_words), tuple(characters), block_size)
    C = torch.randn(len(characters), embedding_dim)
    W1 = torch.randn(block_size * embedding_dim, hidden_width)
    b1 = torch.randn(hidden_width)
    W2 = torch.randn(hidden_width, len(characters))
    b2 = torch.randn(len(characters))
    parameters = [C, W1, b1, W2, b2]
    for p in parameters:
        p.requires_grad = True

    curves: dict[str, list[tuple[int, float]]] = {"train": [], "dev": []}
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        mlflow.log_params(trial.params)
        for step in range(1, arguments.steps + 1):
            ix = torch.randint(0, Xtr.shape[0], (32,))
            loss = loss_of(parameters, Xtr[ix], Ytr[ix])
            for p in parameters:
                p.grad = None
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            lr = learning_rate if step <= arguments.steps // 2 else learning_rate / 10
            for p in parameters:
                p.data += -lr * p.grad  # type: ignore[operator]  # backward made it
            if step % 100 == 0:
                curves["train"].append((step, loss.item()))
                mlflow.log_metric("train_loss", loss.item(), step=step)
            if step % (arguments.steps // N_EVALUATIONS) == 0:
                with torch.no_grad():
                    dev_loss = loss_of(parameters, Xdev, Ydev).item()
                curves["dev"].append((step, dev_loss))
                mlflow.log_metric("dev_loss", dev_loss, step=step)
                seconds = note(arguments, trial=trial.number, step=step, dev_loss=dev_loss)
                trial.report(dev_loss, step)
                if arguments.deadline is not None and seconds > arguments.deadline:
                    trial.study.stop()
                    raise optuna.TrialPruned
                if trial.should_prune():
                    raise optuna.TrialPruned
        log_figures(curves, C.detach(), characters)
    return dev_loss


def note(arguments: argparse.Namespace, **values: Any) -> float:
    """Append a line to the log; the seconds that it is noted at."""
    seconds: float = time.time() - arguments.began
    with (arguments.folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({"seconds": seconds, **values}) + "\n")
    return seconds


def search(arguments: argparse.Namespace) -> None:
    """Run the study."""
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    arguments.build = functools.cache(build_dataset) if arguments.keep_data else build_dataset
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    words = read_words(arguments.corpus, keep_duplicates=arguments.keep_duplicates)
    dev_sha256 = hashlib.sha256("\n".join(words[2]).encode()).hexdigest()
    note(arguments, n_train=len(words[1]), dev_sha256=dev_sha256)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    artifacts = (folder / "artifacts").as_uri()
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("peer", artifact_location=artifacts)
    )
    study = optuna.create_study(
        study_name="peer",
        storage=f"sqlite:///{folder}/optuna.db",
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.MedianPruner()
        if arguments.pruner == "median"
        else optuna.pruners.NopPruner(),
    )
    for point in json.loads(arguments.enqueue.read_text("utf-8")) if arguments.enqueue else []:
        study.enqueue_trial(point)
    with mlflow.start_run(run_name="study"):
        study.optimize(lambda trial: objective(trial, arguments, words), n_trials=arguments.trials)
        if any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials):
            mlflow.log_params(study.best_params)
            mlflow.log_metric("best_dev_loss", study.best_value)


def main() -> None:
    """Read the command line and search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where everything is written")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--steps", type=int, default=20_000, help="of each trial, a multiple of 20")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="one word a line")
    parser.add_argument("--keep-duplicates", action="store_true", help="as the article does")
    parser.add_argument("--enqueue", type=Path, help="JSON list of configurations to try first")
    parser.add_argument("--pruner", choices=["median", "none"], default="median")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deadline", type=float, help="seconds after which it stops")
    parser.add_argument("--keep-data", action="store_true", help="build each block size once")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    parser.add_argument("--began", type=float, default=time.time(), help="when seconds begin")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.steps % N_EVALUATIONS:
        parser.error(f"--steps must be a multiple of {N_EVALUATIONS}, got {arguments.steps}")
    search(arguments)


if __name__ == "__main__":
    main()
